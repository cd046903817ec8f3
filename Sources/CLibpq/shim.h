// libpq's public header lies in a folder of its own on Debian and at the top elsewhere.
#if __has_include(<libpq-fe.h>)
#include <libpq-fe.h>
#else
#include <postgresql/libpq-fe.h>
#endif
