#include "lamp.h"

#include "gizwits.h"

/* products/lamp.json, byte by byte. */
enum { BITS, BRIGHTNESS, TIMER_HIGH, TIMER_LOW, TEMPERATURE, FAULTS, STATUS_SIZE };
enum { WRITABLE_SIZE = TEMPERATURE };
enum { ID_POWER, ID_MODE, ID_BRIGHTNESS, ID_TIMER };

#define POWER 0x01 /* bit 0 of BITS */
#define MODE_SHIFT 1
#define MODE_MASK 0x06
#define MODES 3
#define MOST_BRIGHTNESS 100
#define MOST_TIMER 1440
#define OVERHEATED 0x01 /* bit 0 of FAULTS */

#define DEGREES(celsius) ((uint8_t)((celsius) + 20)) /* addition is -20 */
#define ROOM DEGREES(22)
#define TOO_HOT DEGREES(75)
#define MINUTE 60000u
#define WARMING 2000u /* milliseconds per degree */

static uint8_t status[STATUS_SIZE];
static const uint8_t slow[STATUS_SIZE] = { [TEMPERATURE] = 1 };
static uint32_t uptime, warmed, minute;

static void control(uint32_t flags, const uint8_t *vals)
{
    uint16_t timer = (uint16_t)(vals[TIMER_HIGH] << 8 | vals[TIMER_LOW]);

    if (flags & 1u << ID_POWER)
        status[BITS] = (uint8_t)((status[BITS] & ~POWER) | (vals[BITS] & POWER));
    if (flags & 1u << ID_MODE && (vals[BITS] & MODE_MASK) >> MODE_SHIFT < MODES)
        status[BITS] = (uint8_t)((status[BITS] & ~MODE_MASK) | (vals[BITS] & MODE_MASK));
    if (flags & 1u << ID_BRIGHTNESS && vals[BRIGHTNESS] <= MOST_BRIGHTNESS)
        status[BRIGHTNESS] = vals[BRIGHTNESS];
    if (flags & 1u << ID_TIMER && timer <= MOST_TIMER) {
        status[TIMER_HIGH] = vals[TIMER_HIGH];
        status[TIMER_LOW] = vals[TIMER_LOW];
        minute = uptime;
    }
}

static void restart(void)
{
    lamp_init(uptime);
}

static const giz_product product = {
    .product_key = "f1a9000000000000000000000000a001",
    .status = status,
    .status_size = STATUS_SIZE,
    .writable_size = WRITABLE_SIZE,
    .flag_bytes = 1,
    .slow = slow,
    .control = control,
    .restart = restart,
};

void lamp_init(uint32_t now)
{
    uptime = warmed = minute = now;
    status[BITS] = 0;
    status[BRIGHTNESS] = MOST_BRIGHTNESS;
    status[TIMER_HIGH] = status[TIMER_LOW] = 0;
    status[TEMPERATURE] = ROOM;
    status[FAULTS] = 0;
    giz_init(&product, now);
}

static void count_down(void)
{
    uint16_t timer = (uint16_t)(status[TIMER_HIGH] << 8 | status[TIMER_LOW]);

    if (!timer || uptime - minute < MINUTE)
        return;
    minute += MINUTE;
    timer--;
    status[TIMER_HIGH] = (uint8_t)(timer >> 8);
    status[TIMER_LOW] = (uint8_t)timer;
    if (!timer)
        status[BITS] &= (uint8_t)~POWER;
}

static void warm(void)
{
    uint8_t aim = status[BITS] & POWER ? (uint8_t)(ROOM + status[BRIGHTNESS] / 2) : ROOM;

    if (uptime - warmed < WARMING)
        return;
    warmed = uptime;
    if (status[TEMPERATURE] < aim)
        status[TEMPERATURE]++;
    else if (status[TEMPERATURE] > aim)
        status[TEMPERATURE]--;
    if (status[TEMPERATURE] >= TOO_HOT) {
        status[FAULTS] |= OVERHEATED;
        status[BITS] &= (uint8_t)~POWER;
    } else {
        status[FAULTS] &= (uint8_t)~OVERHEATED;
    }
}

void lamp_poll(uint32_t now)
{
    uptime = now;
    count_down();
    warm();
    giz_poll(now);
}
