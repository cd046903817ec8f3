/* What receiving costs at the least: one thread, one epoll (edge-triggered), one read for each event, and nothing done with it.
 *
 * usage: reader PORT STREAMS RATE SECONDS     (against responder.c; a second process sends RATE broadcasts a second)
 *
 * Prints how many events a second of its own CPU it read.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int open_socket(int port, const char *request, int length) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) || write(fd, request, length) != length) {
        perror("reader");
        exit(1);
    }
    return fd;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    int port = atoi(words[1]), streams = atoi(words[2]), rate = atoi(words[3]), seconds = atoi(words[4]);
    static const char stream[] = "GET /v1/notifications/sse HTTP/1.1\r\n\r\n";
    static const char body[] = "{\"data\":{\"due\":123456789,\"run\":\"0123456789ab\"},\"rec_type\":\"loadtest\",\"rec_id\":\"0-12345\"}";
    char call[512], buffer[4096];
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, ready[1024];
    int poll = epoll_create1(0);
    for (int at = 0; at < streams; at++) {
        event.data.fd = open_socket(port, stream, sizeof stream - 1);
        fcntl(event.data.fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
    }
    pid_t sender = fork();
    if (sender == 0) {
        int length = snprintf(call, sizeof call, "POST /v1/notifications/sse HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s", sizeof body - 1, body);
        int fd = open_socket(port, call, length);
        for (int at = 1; at < rate * seconds && read(fd, buffer, sizeof buffer) > 0; at++) {
            struct timespec rest = {.tv_nsec = 1000000000L / rate};
            nanosleep(&rest, 0);
            if (write(fd, call, length) != length) break;
        }
        sleep(1);
        _exit(0);
    }
    unsigned long long events = 0;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (;;) {
        int some = epoll_wait(poll, ready, 1024, 2000);
        if (some <= 0) break;
        for (int at = 0; at < some; at++)
            if (read(ready[at].data.fd, buffer, sizeof buffer) > 0) events++;
    }
    getrusage(RUSAGE_SELF, &after);
    double cpu = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) + (after.ru_stime.tv_sec - before.ru_stime.tv_sec)
        + (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
    kill(sender, SIGKILL);
    printf("%.0f\n", events / cpu);
}
