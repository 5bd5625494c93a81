// The least that a switch on TAPs can do: what is read from one interface is written to the other, virtio header and all, on
// one thread that sleeps in poll(2) when both are dry. No lookup, no check, no copy of its own: what a data plane on the same
// two calls a frame is measured against. After the project's own raw measurements (tapsw.c).
//
//   copyloop TAP TAP
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { BATCH = 64, VIRTIO_HEADER = 10 };

static int tap(const char *name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), header = VIRTIO_HEADER;
    unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETVNETHDRSZ, &header)
        || (ioctl(fd, TUNSETOFFLOAD, offloads | TUN_F_USO4 | TUN_F_USO6) && ioctl(fd, TUNSETOFFLOAD, offloads))) {
        perror(name);
        exit(1);
    }
    return fd;
}

int main(int c, char **v) {
    if (c != 3) return 2;
    static char frame[VIRTIO_HEADER + 14 + 4 + 65535];
    struct pollfd side[2] = {{tap(v[1]), POLLIN, 0}, {tap(v[2]), POLLIN, 0}};
    for (;;) {
        int busy = 0;
        for (int from = 0; from < 2; from++) {
            for (int k = 0; k < BATCH; k++) {
                ssize_t n = read(side[from].fd, frame, sizeof frame);
                if (n <= 0) break;
                busy = 1;
                // A full queue loses the frame, as a wire would.
                if (write(side[1 - from].fd, frame, n) < 0) continue;
            }
        }
        if (!busy) poll(side, 2, -1);
    }
}
