/* The firmware as a program of this machine: its UART is a TCP port on loopback. */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gizwits.h"
#include "lamp.h"

static int module = -1;

static uint32_t uptime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

void giz_write(const uint8_t *data, size_t size)
{
    while (module >= 0 && size) {
        ssize_t sent = send(module, data, size, 0);
        if (sent <= 0)
            return; /* it is gone; the next read says so */
        data += sent;
        size -= (size_t)sent;
    }
}

static int listen_at(uint16_t port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
    socklen_t size = sizeof at;
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (server < 0 || setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0
        || bind(server, (struct sockaddr *)&at, sizeof at) < 0 || listen(server, 4) < 0
        || getsockname(server, (struct sockaddr *)&at, &size) < 0) {
        perror("lamp: cannot listen");
        exit(1);
    }
    printf("listening at socket://127.0.0.1:%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return server;
}

int main(int argc, char **argv)
{
    char *end = "";
    long port = argc > 1 ? strtol(argv[1], &end, 10) : 0;
    int server;

    if (argc > 2 || *end || port < 0 || port > 65535) {
        fprintf(stderr, "usage: %s [PORT]    0: any free one\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    server = listen_at((uint16_t)port);
    lamp_init(uptime());
    for (;;) {
        struct pollfd waiting = { .fd = module >= 0 ? module : server, .events = POLLIN };
        uint8_t data[256];

        if (poll(&waiting, 1, 5) > 0) {
            if (module < 0) {
                module = accept(server, 0, 0);
                giz_line_up();
            } else {
                ssize_t size = read(module, data, sizeof data), i;
                for (i = 0; i < size; i++)
                    giz_byte(data[i], uptime());
                if (size <= 0) {
                    close(module);
                    module = -1;
                }
            }
        }
        lamp_poll(uptime());
    }
}
