/* The firmware on a Cortex-M3: Arm's MPS2 board (AN385), which QEMU has. No libc, no vendor code. */
#include "gizwits.h"
#include "lamp.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000)
#define UART_STATE REGISTER(0x40004004)
#define UART_CTRL REGISTER(0x40004008)
#define UART_BAUDDIV REGISTER(0x40004010)
#define TX_FULL 1u
#define RX_FULL 2u
#define TX_AND_RX_ON 3u
#define SYSTICK_CTRL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)
#define CORE_CLOCK 25000000u
#define BAUD 9600u

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

static volatile uint32_t uptime;

void giz_write(const uint8_t *data, size_t size)
{
    while (size--) {
        while (UART_STATE & TX_FULL)
            ;
        UART_DATA = *data++;
    }
}

/* What the compiler may call for copies and zeroes of structures. */
void *memset(void *to, int byte, size_t size)
{
    uint8_t *at = to;

    while (size--)
        *at++ = (uint8_t)byte;
    return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
    uint8_t *at = to;
    const uint8_t *next = from;

    while (size--)
        *at++ = *next++;
    return to;
}

static void tick(void)
{
    uptime++;
}

static void stop(void)
{
    for (;;)
        ;
}

void reset(void)
{
    uint32_t *from = &data_load, *to;

    for (to = &data_start; to < &data_end;)
        *to++ = *from++;
    for (to = &bss_start; to < &bss_end;)
        *to++ = 0;
    UART_BAUDDIV = CORE_CLOCK / BAUD;
    UART_CTRL = TX_AND_RX_ON;
    SYSTICK_RELOAD = CORE_CLOCK / 1000 - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = 7; /* core clock, interrupt, on */
    lamp_init(uptime);
    for (;;) {
        if (UART_STATE & RX_FULL)
            giz_byte((uint8_t)UART_DATA, uptime);
        lamp_poll(uptime);
    }
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const handler vectors[16] = {
    (handler)&stack_top, reset, stop, stop, stop, stop, stop, 0, 0, 0, 0, stop, stop, 0, stop, tick,
};
