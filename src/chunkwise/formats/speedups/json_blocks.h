/* An array or object in JSON bytes -> its end: a block of 64 bytes at a time, in one go.

   It reports no errors: odd or incomplete bytes have no end here, and the scanner walks them token by token. It never
   reads at or after `end`. */

#ifndef CHUNKWISE_JSON_BLOCKS_H
#define CHUNKWISE_JSON_BLOCKS_H

#include "json_bytes.h"

/* A long loop takes up to a fifth more time where its start does not lie on a line of the processor's cache. */
#if defined(__GNUC__)
#define CHUNKWISE_HOT __attribute__((noinline, aligned(64)))
#else
#define CHUNKWISE_HOT
#endif

/* The bytes that can end a run of plain ones in a string, for 64 bytes at a time: a bit each, the first one lowest.

   `plain_end` must wait for the place where it begins, some fifteen cycles for each string. Here the places of a whole
   block are known at once, and the processor can go ahead to the next tokens. */
typedef struct {
    Bytes block;   /* the end, where fewer than 64 bytes are left: there `plain_end` is used */
    uint64_t bits; /* of the bytes that were not passed yet */
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

/* Return the first '"', '\' or control character at or after `at`, which never goes back; or the end. */
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

/* Go on inside a string: return the place after its closing quote; NULL if it is cut or not valid. */
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

/* Return the end of the array or object that begins here; NULL if it is not JSON, or does not end before the end, or
   is nested deeper than `most`, or than 63. */
static CHUNKWISE_HOT Bytes proven_end(Bytes at, Bytes end, ptrdiff_t most) {
    uint64_t objects = 0; /* a bit for each that is open, the innermost lowest: whether it is an object */
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
/* The places of quotes, backslashes and brackets in a block of 64 bytes: a bit each, the first one lowest. */
typedef struct {
    uint64_t quotes, slashes, opens, closes;
} Marks;

static inline Marks marks_of(Bytes block) {
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), opener = _mm_set1_epi8('{');
    const __m128i closer = _mm_set1_epi8('}'), fold = _mm_set1_epi8(0x20); /* '[' and '{', ']' and '}' differ by it */
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

/* Return the quotes without those after a backslash; `escaped` says if the block before ended with a backslash. */
static inline uint64_t real_quotes(Marks marks, uint64_t *escaped) {
    uint64_t after = *escaped, slashes = marks.slashes & ~after;
    *escaped = 0;
    while (slashes) {
        const uint64_t slash = slashes & -slashes; /* the first: it escapes the next byte */
        if (slash >> 63)
            *escaped = 1;
        after |= slash << 1;
        slashes &= ~(slash | slash << 1);
    }
    return marks.quotes & ~after;
}

/* Return a bit for each byte with an odd number of quotes up to and including itself: inside a string. */
static inline uint64_t between(uint64_t quotes) {
    int shift;
    for (shift = 1; shift < 64; shift *= 2)
        quotes ^= quotes << shift;
    return quotes;
}
#endif

/* Return the place after the bracket that closes the one at `at`; NULL if it is not before the end, or more than `most`
   brackets are open at once.

   It counts the brackets outside strings and checks nothing else. Where the text is JSON, this is the end of the value,
   in a quarter of the time that a proof takes. */
static inline Bytes balanced_end(Bytes at, Bytes end, ptrdiff_t most) {
#ifdef CHUNKWISE_SSE2
    ptrdiff_t open = 0;
    uint64_t escaped = 0, in_string = 0; /* all bits, where a block begins in a string */
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
