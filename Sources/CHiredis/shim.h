// hiredis is used as a codec only: the command formatter and the reply reader.
#include <hiredis/hiredis.h>
