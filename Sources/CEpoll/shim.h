// What Swift's Glibc module leaves out of Linux's.
#include <sys/epoll.h>
#include <sys/eventfd.h>
