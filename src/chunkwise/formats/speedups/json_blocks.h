/* The start of an array or object in JSON bytes -> its end, found in blocks of 64 bytes.

   The functions report no errors. For invalid or incomplete JSON they return NULL, and the scanner then reads it token
   by token. They never read a byte at or after `end`. */

#ifndef CHUNKWISE_JSON_BLOCKS_H
#define CHUNKWISE_JSON_BLOCKS_H

#include "json_bytes.h"

/* A long loop takes up to a fifth more time if its code does not start at a cache line. */
#if defined(__GNUC__)
#define CHUNKWISE_HOT __attribute__((noinline, aligned(64)))
#else
#define CHUNKWISE_HOT
#endif

/* Which of 64 bytes are quotes, backslashes or control characters, the bytes that end plain text in a string: one bit
   for each byte, the lowest bit for the first byte.

   `plain_end` starts where the previous token ended, so the processor waits some fifteen cycles for each string. These
   bits do not depend on the tokens, so the processor can compute them ahead. */
typedef struct {
    Bytes block;   /* equal to the end if fewer than 64 bytes are left: then `plain_end` is used */
    uint64_t bits; /* one bit for each byte that is still to be read */
} Ends;

static inline Ends ends_from(Bytes at, Bytes end) {
    Ends ends = {end, 0};
#ifdef CHUNKWISE_SSE2
    if (end - at >= 64) {
        int shift;
        ends.block = at;
        for (shift = 0; shift < 64; shift += 16)
            ends.bits |= (uint64_t)ends_of_16(at + shift) << shift;
    }
#endif
    return ends;
}

/* Return the first '"', '\' or control character at or after `at`, or the end. `at` must not be lower than in
   the previous call. */
static inline Bytes next_end(Ends *ends, Bytes at, Bytes end) {
#ifdef CHUNKWISE_SSE2
    while (ends->block != end) {
        for (; ends->bits; ends->bits &= ends->bits - 1) {
            const Bytes found = ends->block + first_bit64(ends->bits);
            if (found >= at)
                return found;
        }
        *ends = ends_from(ends->block + 64, end);
    }
#endif
    return plain_end(at, end);
}

/* Return the position after the closing quote of the string that `at` is in; NULL if it is incomplete or invalid. */
static inline Bytes after_string(Ends *ends, Bytes at, Bytes end) {
    for (;;) {
        int size;
        at = next_end(ends, at, end);
        if (at == end)
            return NULL;
        if (*at == '"')
            return at + 1;
        size = *at == '\\' ? escape_bytes(at, end) : 0;
        if (size <= 0)
            return NULL;
        at += size;
    }
}

static inline Bytes after_white(Bytes at, Bytes end) {
    while (at < end && is_white(*at))
        at++;
    return at;
}

/* Return the end of the array or object that begins at `at`, after checking that it is JSON. Return NULL if it is
   invalid or incomplete, or nested deeper than `most` or than 63. */
static CHUNKWISE_HOT Bytes proven_end(Bytes at, Bytes end, ptrdiff_t most) {
    uint64_t objects = 0; /* one bit for each open container, the innermost lowest: 1 for an object */
    ptrdiff_t depth = 0;
    Ends ends = ends_from(at, end);
    int size;
open:
    if (++depth > most || depth > 63)
        return NULL;
    objects = objects << 1 | (*at == '{');
    at = after_white(at + 1, end);
    if (at == end)
        return NULL;
    if (*at == (objects & 1 ? '}' : ']'))
        goto close;
    if (!(objects & 1))
        goto value;
name:
    if (*at != '"' || (at = after_string(&ends, at + 1, end)) == NULL)
        return NULL;
    at = after_white(at, end);
    if (at == end || *at != ':')
        return NULL;
    at = after_white(at + 1, end);
    if (at == end)
        return NULL;
value:
    if (*at == '"')
        at = after_string(&ends, at + 1, end);
    else if (*at == '{' || *at == '[')
        goto open;
    else if (is_digit(*at) || *at == '-')
        at = number_end(at, end);
    else {
        size = literal_bytes(at, end);
        at = size > 0 ? at + size : NULL;
    }
    if (at == NULL)
        return NULL;
ended:
    at = after_white(at, end);
    if (at == end)
        return NULL;
    if (*at == ',') {
        at = after_white(at + 1, end);
        if (at == end)
            return NULL;
        if (objects & 1)
            goto name;
        goto value;
    }
    if (*at != (objects & 1 ? '}' : ']'))
        return NULL;
close:
    at++;
    objects >>= 1;
    if (--depth)
        goto ended;
    return at;
}

#ifdef CHUNKWISE_SSE2
/* Which of 64 bytes are quotes, backslashes or brackets: one bit for each byte, the lowest bit for the first byte. */
typedef struct {
    uint64_t quotes, slashes, opens, closes;
} Marks;

static inline Marks marks_of(Bytes block) {
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), opener = _mm_set1_epi8('{');
    const __m128i closer = _mm_set1_epi8('}'), fold = _mm_set1_epi8(0x20); /* maps '[' to '{' and ']' to '}' */
    Marks marks = {0, 0, 0, 0};
    int shift;
    for (shift = 0; shift < 64; shift += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(block + shift));
        const __m128i folded = _mm_or_si128(bytes, fold);
        marks.quotes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, quote)) << shift;
        marks.slashes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, slash)) << shift;
        marks.opens |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(folded, opener)) << shift;
        marks.closes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(folded, closer)) << shift;
    }
    return marks;
}

/* Return the quotes that are not escaped. `escaped` is 1 if a backslash at the end of the previous block escapes the
   first byte of this block. */
static inline uint64_t real_quotes(Marks marks, uint64_t *escaped) {
    uint64_t after = *escaped, slashes = marks.slashes & ~after;
    *escaped = 0;
    while (slashes) {
        const uint64_t slash = slashes & -slashes; /* the first backslash: it escapes the next byte */
        if (slash >> 63)
            *escaped = 1;
        after |= slash << 1;
        slashes &= ~(slash | slash << 1);
    }
    return marks.quotes & ~after;
}

/* Return a bit for each byte: 1 if it is inside a string, so that an odd number of quotes is at or before it. */
static inline uint64_t between(uint64_t quotes) {
    int shift;
    for (shift = 1; shift < 64; shift *= 2)
        quotes ^= quotes << shift;
    return quotes;
}
#endif

/* Return the position after the bracket that closes the bracket at `at`; NULL if it is not before the end, or if
   more than `most` brackets are open at once.

   The function counts the brackets outside of strings and checks nothing else. It takes a quarter of the time of
   `proven_end`, and finds the end of the value if the text is JSON. */
static inline Bytes balanced_end(Bytes at, Bytes end, ptrdiff_t most) {
#ifdef CHUNKWISE_SSE2
    ptrdiff_t open = 0;
    uint64_t escaped = 0, in_string = 0; /* all bits are 1 if the block begins inside a string */
    unsigned char rest[64];
    for (; at < end; at += 64) {
        const ptrdiff_t left = end - at;
        Bytes block = at;
        Marks marks;
        uint64_t quotes, strings, brackets;
        if (left < 64) {
            memset(rest, ' ', sizeof rest);
            memcpy(rest, at, left);
            block = rest;
        }
        marks = marks_of(block);
        quotes = marks.slashes | escaped ? real_quotes(marks, &escaped) : marks.quotes;
        strings = between(quotes) ^ in_string;
        in_string = (uint64_t)0 - (strings >> 63);
        for (brackets = (marks.opens | marks.closes) & ~strings; brackets; brackets &= brackets - 1) {
            const int place = first_bit64(brackets);
            open += (marks.opens >> place & 1) ? 1 : -1;
            if (open == 0)
                return at + place + 1;
            if (open > most)
                return NULL;
        }
        if (left <= 64)
            break;
    }
    return NULL;
#else
    return proven_end(at, end, most);
#endif
}

#endif
