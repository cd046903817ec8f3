// libcurl's setters and getters are variadic, which Swift does not call: one function for each type of their argument.
#include <curl/curl.h>
#include <sys/socket.h>

static inline CURLcode carillon_easy_long(CURL *easy, CURLoption option, long value) { return (curl_easy_setopt)(easy, option, value); }
static inline CURLcode carillon_easy_size(CURL *easy, CURLoption option, curl_off_t value) { return (curl_easy_setopt)(easy, option, value); }
static inline CURLcode carillon_easy_text(CURL *easy, CURLoption option, const char *value) { return (curl_easy_setopt)(easy, option, value); }
static inline CURLcode carillon_easy_bytes(CURL *easy, CURLoption option, const void *value) { return (curl_easy_setopt)(easy, option, value); }
static inline CURLcode carillon_easy_list(CURL *easy, CURLoption option, struct curl_slist *value) { return (curl_easy_setopt)(easy, option, value); }
static inline CURLcode carillon_easy_pointer(CURL *easy, CURLoption option, void *value) { return (curl_easy_setopt)(easy, option, value); }

typedef size_t (*carillon_data_callback)(char *bytes, size_t size, size_t count, void *context);
static inline CURLcode carillon_easy_data(CURL *easy, CURLoption option, carillon_data_callback callback) {
    return (curl_easy_setopt)(easy, option, callback);
}

typedef int (*carillon_progress_callback)(void *context, curl_off_t toReceive, curl_off_t received, curl_off_t toSend, curl_off_t sent);
static inline CURLcode carillon_easy_progress(CURL *easy, carillon_progress_callback callback) {
    return (curl_easy_setopt)(easy, CURLOPT_XFERINFOFUNCTION, callback);
}

typedef curl_socket_t (*carillon_socket_callback)(void *context, curlsocktype purpose, struct curl_sockaddr *address);
static inline CURLcode carillon_easy_socket(CURL *easy, carillon_socket_callback callback) {
    return (curl_easy_setopt)(easy, CURLOPT_OPENSOCKETFUNCTION, callback);
}
// The address lies behind fields that Swift would copy without its end.
static inline const struct sockaddr *carillon_address(const struct curl_sockaddr *address) { return &address->addr; }

static inline CURLcode carillon_easy_get_long(CURL *easy, CURLINFO info, long *value) { return (curl_easy_getinfo)(easy, info, value); }
static inline CURLcode carillon_easy_get_size(CURL *easy, CURLINFO info, curl_off_t *value) { return (curl_easy_getinfo)(easy, info, value); }
static inline CURLcode carillon_easy_get_pointer(CURL *easy, CURLINFO info, void **value) { return (curl_easy_getinfo)(easy, info, value); }

static inline CURLMcode carillon_multi_long(CURLM *multi, CURLMoption option, long value) { return (curl_multi_setopt)(multi, option, value); }
static inline CURLcode carillon_message_result(const CURLMsg *message) { return message->data.result; }
