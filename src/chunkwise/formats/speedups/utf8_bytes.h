/* Bytes -> the position up to which they are valid UTF-8 (Unicode §3.9, table 3-7).

   ASCII is checked sixteen bytes at a time on processors with SSE2, and eight bytes at a time on others. */

#ifndef CHUNKWISE_UTF8_BYTES_H
#define CHUNKWISE_UTF8_BYTES_H

#include "json_bytes.h"

#ifdef CHUNKWISE_SSE2
#define CHUNKWISE_UTF8_STEP 16
static inline int is_ascii_step(Bytes at) {
    return _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)at)) == 0;
}
#else
#define CHUNKWISE_UTF8_STEP 8
static inline int is_ascii_step(Bytes at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return (word & 0x8080808080808080u) == 0;
}
#endif

/* Return the size of the multi-byte character that begins at `at`; 0 if it is incomplete or invalid. */
static inline int utf8_size(Bytes at, Bytes end) {
    const unsigned char first = at[0];
    const int size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    /* These bounds of the second byte exclude overlong forms, surrogates and characters above U+10FFFF. */
    const unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    int index;
    if (size == 0 || end - at < size || at[1] < least || at[1] > most)
        return 0;
    for (index = 2; index < size; index++)
        if ((at[index] & 0xc0) != 0x80)
            return 0;
    return size;
}

/* Return the position of the first incomplete or invalid character, or the end. */
static inline Bytes utf8_end(Bytes at, Bytes end) {
    while (at < end) {
        if (*at < 0x80) {
            while (end - at >= CHUNKWISE_UTF8_STEP && is_ascii_step(at))
                at += CHUNKWISE_UTF8_STEP;
            while (at < end && *at < 0x80)
                at++;
        } else {
            const int size = utf8_size(at, end);
            if (size == 0)
                break;
            at += size;
        }
    }
    return at;
}

#endif
