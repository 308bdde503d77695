/* The MCU's side of the Gizwits serial protocol, fixed-length products. No I/O, no clock, no heap.
 *
 * The platform calls giz_byte() for every byte received and giz_poll() as often as it can, both with the
 * uptime in milliseconds, and provides giz_write(). The application has the status record and is told of
 * controls. */
#ifndef GIZWITS_H
#define GIZWITS_H

#include <stddef.h>
#include <stdint.h>

#define GIZ_MAX_STATUS 32

typedef struct {
    const char *product_key; /* 32 characters */
    uint8_t *status;         /* dev_status: writable points first */
    uint8_t status_size;
    uint8_t writable_size;  /* bytes of attr_vals */
    uint8_t flag_bytes;     /* bytes of attr_flags, 1 to 4 */
    const uint8_t *slow;    /* 1 for each byte of status whose changes may wait 6 s (read-only numbers) */
    void (*control)(uint32_t flags, const uint8_t *vals); /* flags: bit i is point id i */
    void (*restart)(void);                                /* 600 ms after the module asked for it */
} giz_product;

void giz_write(const uint8_t *data, size_t size);

void giz_init(const giz_product *product, uint32_t now);
void giz_line_up(void); /* whoever is at the other end is new: forget half a frame */
void giz_byte(uint8_t byte, uint32_t now);
void giz_poll(uint32_t now);

#endif
