/* The lamp: what it does with its data points. The platform calls lamp_init() once and lamp_poll() often. */
#ifndef LAMP_H
#define LAMP_H

#include <stdint.h>

void lamp_init(uint32_t now);
void lamp_poll(uint32_t now);

#endif
