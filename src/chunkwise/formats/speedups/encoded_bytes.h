/* Encoded JSON -> whether it contains "null", and the number of its line ends. On processors with SSE2, the functions
   read sixteen bytes at a time. */

#ifndef CHUNKWISE_ENCODED_BYTES_H
#define CHUNKWISE_ENCODED_BYTES_H

#include "json_bytes.h"

/* Return whether the bytes contain "null", inside or outside of strings. */
static inline int holds_null_bytes(Bytes at, Bytes end) {
#ifdef CHUNKWISE_SSE2
    const __m128i first = _mm_set1_epi8('n'), second = _mm_set1_epi8('u');
    for (; end - at >= 20; at += 16) {
        const __m128i starts = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)at), first);
        const __m128i nexts = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(at + 1)), second);
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_and_si128(starts, nexts));
        for (; mask; mask &= mask - 1) {
            if (memcmp(at + first_bit(mask), "null", 4) == 0)
                return 1;
        }
    }
#endif
    while (end - at >= 4 && (at = memchr(at, 'n', end - at - 3)) != NULL) {
        if (memcmp(at, "null", 4) == 0)
            return 1;
        at++;
    }
    return 0;
}

/* Return the number of LF and CR bytes, or -1 if a line is empty or begins with white space. */
static inline ptrdiff_t line_end_bytes(Bytes at, Bytes end) {
    ptrdiff_t count = 0;
    unsigned fed = 1; /* whether the previous byte is an LF; true at the start */
#ifdef CHUNKWISE_SSE2
    const __m128i feeds = _mm_set1_epi8('\n'), returns = _mm_set1_epi8('\r'), space = _mm_set1_epi8(' ');
    for (; end - at >= 16; at += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        const unsigned fed_here = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, feeds));
        const unsigned white = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(bytes, space), bytes));
        if (white & (fed_here << 1 | fed))
            return -1;
        fed = fed_here >> 15;
        unsigned mask = fed_here | (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, returns));
        for (; mask; mask &= mask - 1)
            count++;
    }
#endif
    for (; at < end; at++) {
        if (*at <= ' ' && fed)
            return -1;
        fed = *at == '\n';
        count += fed || *at == '\r';
    }
    return count;
}

#endif
