#include "gizwits.h"

enum {
    DEVICE_INFO = 0x01,
    P0_TO_MCU = 0x03,
    P0_FROM_MCU = 0x05,
    HEARTBEAT = 0x07,
    STATUS = 0x0D,
    RESTART_MCU = 0x0F,
    NOTICE_FROM_MODULE = 0x11,
    NOTICE = 0x12,

    CONTROL = 0x01,
    READ = 0x02,
    READ_REPLY = 0x03,
    REPORT = 0x04,
};

#define MAX_LOGICAL 512 /* after the header */
#define OVERHEAD 5      /* cmd, sn, flags, checksum: what len counts beside the payload */
#define ACK_WAIT 200u
#define TRIES 3
#define SLOW_INTERVAL 6000u
#define FULL_INTERVAL 600000u
#define RESTART_DELAY 600u

static const giz_product *product;

/* --- receiver */
static enum { HUNT, HEADER, BODY } state;
static int pending_ff;
static uint8_t rx[MAX_LOGICAL];
static size_t rx_size;
static uint8_t last[4]; /* cmd, sn, checksum of the last command, and whether there is one */

/* --- sender */
static uint8_t next_sn;
static uint8_t report[1 + GIZ_MAX_STATUS];
static uint8_t report_sn;
static int report_tries; /* 0: none is waiting for its ack */
static uint32_t report_sent;
static int report_owed; /* a control wants a report */

/* --- when to report */
static uint8_t reported[GIZ_MAX_STATUS];
static uint32_t change_reported, full_reported;
static int restarting;
static uint32_t restart_asked;

static void copy(uint8_t *to, const uint8_t *from, size_t size)
{
    while (size--)
        *to++ = *from++;
}

static size_t put(uint8_t *out, size_t at, uint8_t byte)
{
    out[at++] = byte;
    if (byte == 0xFF)
        out[at++] = 0x55; /* the escape; the header does not come through here */
    return at;
}

static void send(uint8_t cmd, uint8_t sn, const uint8_t *payload, size_t size)
{
    static uint8_t out[2 + 2 * (7 + 128)];
    uint16_t len = (uint16_t)(size + OVERHEAD);
    uint8_t head[6] = { (uint8_t)(len >> 8), (uint8_t)len, cmd, sn, 0, 0 };
    uint8_t sum = 0;
    size_t at = 0, i;

    out[at++] = 0xFF;
    out[at++] = 0xFF;
    for (i = 0; i < sizeof head; i++) {
        sum = (uint8_t)(sum + head[i]);
        at = put(out, at, head[i]);
    }
    for (i = 0; i < size; i++) {
        sum = (uint8_t)(sum + payload[i]);
        at = put(out, at, payload[i]);
    }
    at = put(out, at, sum);
    giz_write(out, at);
}

static void send_info(uint8_t sn)
{
    /* Variant C: serial and P0 version, hardware, software, product key, bind time, attributes, secret. */
    static const char versions[] = "00000004" "00000002" "00000001" "00000001";
    uint8_t body[106];
    size_t i;

    copy(body, (const uint8_t *)versions, 32);
    copy(body + 32, (const uint8_t *)product->product_key, 32);
    for (i = 64; i < 74; i++)
        body[i] = 0;
    for (i = 74; i < sizeof body; i++)
        body[i] = '0'; /* no product secret */
    send(DEVICE_INFO + 1, sn, body, sizeof body);
}

static void send_status(uint8_t cmd, uint8_t sn, uint8_t action)
{
    uint8_t body[1 + GIZ_MAX_STATUS];

    body[0] = action;
    copy(body + 1, product->status, product->status_size);
    send(cmd, sn, body, 1u + product->status_size);
}

static void p0(uint8_t sn, const uint8_t *body, size_t size, int again)
{
    uint32_t flags = 0;
    size_t i;

    if (size && body[0] == READ) {
        send_status(P0_TO_MCU + 1, sn, READ_REPLY);
        return;
    }
    send(P0_TO_MCU + 1, sn, 0, 0);
    if (again || !size || body[0] != CONTROL)
        return; /* repeated because our ack got lost, raw data, or another family's action */
    if (size < 1u + product->flag_bytes + product->writable_size)
        return;
    for (i = 0; i < product->flag_bytes; i++)
        flags = flags << 8 | body[1 + i];
    product->control(flags, body + 1 + product->flag_bytes);
    report_owed = 1;
}

static void frame(uint32_t now)
{
    uint8_t cmd = rx[2], sn = rx[3], sum = 0;
    const uint8_t *body = rx + 6;
    size_t size = rx_size - 7, i;
    int again;

    for (i = 0; i + 1 < rx_size; i++)
        sum = (uint8_t)(sum + rx[i]);
    if (sum != rx[rx_size - 1]) {
        uint8_t code = 1;
        if (cmd % 2 && cmd != NOTICE_FROM_MODULE) /* damaged acks and notices are met with silence */
            send(NOTICE, sn, &code, 1);
        return;
    }
    if (cmd == P0_FROM_MCU + 1) {
        if (report_tries && sn == report_sn)
            report_tries = 0;
        return;
    }
    if (cmd == NOTICE_FROM_MODULE)
        return; /* no ack: the repetition decides */
    again = last[3] && last[0] == cmd && last[1] == sn && last[2] == sum;
    last[0] = cmd, last[1] = sn, last[2] = sum, last[3] = 1;
    switch (cmd) {
    case DEVICE_INFO:
        send_info(sn);
        break;
    case P0_TO_MCU:
        p0(sn, body, size, again);
        break;
    case HEARTBEAT:
    case STATUS:
        send((uint8_t)(cmd + 1), sn, 0, 0);
        break;
    case RESTART_MCU:
        send(RESTART_MCU + 1, sn, 0, 0);
        restarting = 1;
        restart_asked = now;
        break;
    default: {
        uint8_t code = 2;
        if (cmd != NOTICE)
            send(NOTICE, sn, &code, 1);
    }
    }
}

static void append(uint8_t byte, uint32_t now)
{
    size_t len;

    rx[rx_size++] = byte;
    if (rx_size < 2)
        return;
    len = (size_t)rx[0] << 8 | rx[1];
    if (len < OVERHEAD || len + 2 > MAX_LOGICAL) {
        state = HUNT;
    } else if (rx_size == len + 2) {
        state = HUNT;
        frame(now);
    }
}

void giz_byte(uint8_t byte, uint32_t now)
{
    if (state == HUNT) {
        state = byte == 0xFF ? HEADER : HUNT;
    } else if (state == HEADER) {
        state = byte == 0xFF ? BODY : HUNT;
        rx_size = 0;
        pending_ff = 0;
    } else if (!pending_ff) {
        if (byte == 0xFF)
            pending_ff = 1;
        else
            append(byte, now);
    } else if (byte == 0x55) {
        pending_ff = 0;
        append(0xFF, now);
    } else if (byte == 0xFF) {
        rx_size = 0; /* a header in the middle: the frame before was cut off */
        pending_ff = 0;
    } else {
        pending_ff = 0;
        if (rx_size == 0)
            append(byte, now); /* a stray FF stood before the header */
        else
            state = HUNT;
    }
}

static void send_report(uint32_t now)
{
    report[0] = REPORT;
    copy(report + 1, product->status, product->status_size);
    copy(reported, product->status, product->status_size);
    report_sn = next_sn++;
    report_tries = 1;
    report_sent = now;
    report_owed = 0;
    change_reported = now;
    send(P0_FROM_MCU, report_sn, report, 1u + product->status_size);
}

static int change_due(uint32_t now)
{
    size_t i;

    for (i = 0; i < product->status_size; i++)
        if (product->status[i] != reported[i] && (!product->slow[i] || now - change_reported >= SLOW_INTERVAL))
            return 1;
    return 0;
}

void giz_poll(uint32_t now)
{
    if (restarting && now - restart_asked >= RESTART_DELAY) {
        restarting = 0;
        product->restart();
        return;
    }
    if (report_tries) {
        if (now - report_sent < ACK_WAIT)
            return; /* one report at a time; what changes meanwhile is in the next one */
        if (report_tries < TRIES) {
            report_tries++;
            report_sent = now;
            send(P0_FROM_MCU, report_sn, report, 1u + product->status_size);
            return;
        }
        report_tries = 0;
    }
    if (now - full_reported >= FULL_INTERVAL) {
        full_reported = now;
        send_report(now);
    } else if (report_owed || change_due(now)) {
        send_report(now);
    }
}

void giz_line_up(void)
{
    state = HUNT;
    last[3] = 0;
    report_tries = 0;
}

void giz_init(const giz_product *of, uint32_t now)
{
    product = of;
    giz_line_up();
    next_sn = 0;
    report_owed = restarting = 0;
    change_reported = full_reported = now;
    copy(reported, product->status, product->status_size);
}
