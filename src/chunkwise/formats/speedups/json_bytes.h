/* A position in JSON bytes -> the end of the string, number, literal or escape at this position (RFC 8259 §3, §6, §7).

   With SSE2, which every x86-64 processor has, the functions read sixteen bytes at a time. Elsewhere they read eight
   bytes at a time in one register (SWAR). They never read a byte at or after `end`. */

#ifndef CHUNKWISE_JSON_BYTES_H
#define CHUNKWISE_JSON_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(CHUNKWISE_NO_SSE2) && (defined(__SSE2__) || defined(_M_X64))
#define CHUNKWISE_SSE2
#include <emmintrin.h>
#if defined(_MSC_VER)
#include <intrin.h>
static inline int first_bit(unsigned mask) { unsigned long at; _BitScanForward(&at, mask); return (int)at; }
static inline int first_bit64(uint64_t mask) { unsigned long at; _BitScanForward64(&at, mask); return (int)at; }
#else
static inline int first_bit(unsigned mask) { return __builtin_ctz(mask); }
static inline int first_bit64(uint64_t mask) { return __builtin_ctzll(mask); }
#endif
#endif

typedef const unsigned char *Bytes;

static inline int is_white(unsigned char byte) {
    return byte <= ' ' && (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t');
}

static inline int is_digit(unsigned char byte) { return (unsigned char)(byte - '0') < 10; }

static inline int is_hex(unsigned char byte) { return is_digit(byte) || (unsigned char)((byte | 0x20) - 'a') < 6; }

#ifdef CHUNKWISE_SSE2
/* Return 16 bits: 1 for each byte that is '"', '\' or a control character. */
static inline unsigned ends_of_16(Bytes at) {
    const __m128i quotes = _mm_set1_epi8('"'), slashes = _mm_set1_epi8('\\'), controls = _mm_set1_epi8(0x1f);
    const __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    const __m128i ends = _mm_or_si128(_mm_cmpeq_epi8(bytes, quotes), _mm_cmpeq_epi8(bytes, slashes));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, controls), bytes);
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(ends, low));
}
#endif

/* Return the position of the first '"', '\' or control character, or the end. */
static inline Bytes plain_end(Bytes at, Bytes end) {
#ifdef CHUNKWISE_SSE2
    for (; end - at >= 16; at += 16) {
        const unsigned mask = ends_of_16(at);
        if (mask)
            return at + first_bit(mask);
    }
#else
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    for (; end - at >= 8; at += 8) {
        uint64_t word, quotes, slashes;
        memcpy(&word, at, 8);
        quotes = word ^ (ones * '"');
        slashes = word ^ (ones * '\\');
        /* For a byte below n, (word - n) & ~word has its high bit set. A borrow may set more bits,
           so the loop below checks each byte. */
        if (((word - ones * 0x20) & ~word & highs) | ((quotes - ones) & ~quotes & highs) |
            ((slashes - ones) & ~slashes & highs))
            break;
    }
#endif
    while (at < end && *at != '"' && *at != '\\' && *at >= 0x20)
        at++;
    return at;
}

/* Return the size of the literal that begins at `at`; 0 if it is incomplete, -1 if it is not a literal. */
static inline int literal_bytes(Bytes at, Bytes end) {
    const char *const word = *at == 't' ? "true" : *at == 'f' ? "false" : *at == 'n' ? "null" : NULL;
    const ptrdiff_t size = *at == 'f' ? 5 : 4, left = end - at;
    if (word == NULL)
        return -1;
    if (left >= size)
        return memcmp(at, word, size) ? -1 : (int)size;
    return memcmp(at, word, left) ? -1 : 0;
}

/* Return the size of the escape that begins at `at`; 0 if it is incomplete, -1 if it is invalid. */
static inline int escape_bytes(Bytes at, Bytes end) {
    const ptrdiff_t left = end - at;
    int index;
    if (left < 2)
        return 0;
    if (at[1] != 'u')
        return at[1] != 0 && strchr("\"\\/bfnrt", at[1]) ? 2 : -1;
    for (index = 2; index < 6; index++) {
        if (index == left)
            return 0;
        if (!is_hex(at[index]))
            return -1;
        if (index == 3 && (at[2] | 0x20) == 'd' && (at[3] | 0x20) >= 'c')
            return -1; /* the second surrogate of a pair without the first */
    }
    if ((at[2] | 0x20) != 'd' || at[3] < '8')
        return 6;
    for (index = 6; index < 12; index++) { /* the first surrogate of a pair: the second must follow */
        if (index == left)
            return 0;
        if (index == 6   ? at[index] != '\\'
            : index == 7 ? at[index] != 'u'
            : index == 8 ? (at[index] | 0x20) != 'd'
            : index == 9 ? (unsigned char)((at[index] | 0x20) - 'c') > 3
                         : !is_hex(at[index]))
            return -1;
    }
    return 12;
}

/* Return where the string that `at` is in stops: at its closing quote, at an invalid byte, at an incomplete or invalid
   escape, or at the end. Set `escapes` to 1 if there is an escape before this position. */
static inline Bytes string_end(Bytes at, Bytes end, int *escapes) {
    for (;;) {
        int size;
        at = plain_end(at, end);
        if (at == end || *at != '\\')
            return at;
        size = escape_bytes(at, end);
        if (size <= 0)
            return at;
        *escapes = 1;
        at += size;
    }
}

static inline Bytes digits_end(Bytes at, Bytes end) {
#ifdef CHUNKWISE_SSE2
    if (end - at >= 16) {
        const __m128i values = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)at), _mm_set1_epi8('0'));
        const __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
        const unsigned mask = (unsigned)_mm_movemask_epi8(digits) ^ 0xffffu;
        if (mask)
            return at + first_bit(mask);
        at += 16;
    }
#endif
    while (at < end && is_digit(*at))
        at++;
    return at;
}

static inline int is_of_number(unsigned char byte) {
    return is_digit(byte) || byte == '.' || byte == '-' || byte == '+' || (byte | 0x20) == 'e';
}

/* Return the position after all bytes that can be part of a number, in any order. */
static inline Bytes number_bytes_end(Bytes at, Bytes end) {
    while (at < end && is_of_number(*at))
        at++;
    return at;
}

/* Return the end of the number that begins at `at`, which may be `end`; NULL if it is not a number. */
static inline Bytes number_end(Bytes at, Bytes end) {
    Bytes begin;
    if (at < end && *at == '-')
        at++;
    if (at == end || !is_digit(*at))
        return NULL;
    at = *at == '0' ? at + 1 : digits_end(at + 1, end);
    if (at < end && *at == '.') {
        begin = at + 1;
        at = digits_end(begin, end);
        if (at == begin)
            return NULL;
    }
    if (at < end && (*at | 0x20) == 'e') {
        begin = at + 1;
        if (begin < end && (*begin == '+' || *begin == '-'))
            begin++;
        at = digits_end(begin, end);
        if (at == begin)
            return NULL;
    }
    return at;
}

#endif
