/*
 * The instructions of Arm's DSP extension (Cortex-M4, M7, M33, ...) that the matrix products use: pairs
 * of signed 16-bit numbers in one word, low half first. Each has a twin in portable C99.
 *
 * NET_DSP chooses the code built from them. It is 1 where the compiler announces the extension; defining
 * it as 1 elsewhere runs the same code with the twins, and 0 turns it off.
 */
#ifndef DSP_H
#define DSP_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN)
#define DSP_ASM 1
#else
#define DSP_ASM 0
#endif

#ifndef NET_DSP
#define NET_DSP DSP_ASM
#endif

/* INLINE: to be folded with its constants at every call. OUTLINE: one copy, shared by all layers. */
#if defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline, unused))
#elif defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline, noclone, unused))
#else
#define INLINE static inline
#define OUTLINE static inline
#endif

/* The low and the high half of a word, as signed numbers. */
INLINE int32_t low_half(uint32_t pair)
{
    return (int32_t)(pair & 0xFFFF) - (int32_t)((pair & 0x8000) << 1);
}

INLINE int32_t high_half(uint32_t pair)
{
    return low_half(pair >> 16);
}

/* (low, high) in one word. */
INLINE uint32_t pair_of(int32_t low, int32_t high)
{
#if DSP_ASM
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(low), "r"(high));
    return pair;
#else
    return ((uint32_t)low & 0xFFFF) | (uint32_t)high << 16;
#endif
}

/* The pair at `from`, which the DSP cores read at any address. */
INLINE uint32_t load_pair(const int16_t *from)
{
#if DSP_ASM
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
#else
    return pair_of(from[0], from[1]);
#endif
}

INLINE void store_pair(int16_t *to, uint32_t pair)
{
#if DSP_ASM
    memcpy(to, &pair, sizeof pair);
#else
    to[0] = (int16_t)low_half(pair);
    to[1] = (int16_t)high_half(pair);
#endif
}

/* Four codes, the first in the lowest byte. */
INLINE uint32_t load_codes(const int8_t *from)
{
#if DSP_ASM
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
#else
    return (uint32_t)(uint8_t)from[0] | (uint32_t)(uint8_t)from[1] << 8
        | (uint32_t)(uint8_t)from[2] << 16 | (uint32_t)(uint8_t)from[3] << 24;
#endif
}

/* The first `count` of four codes; the others are 0. */
INLINE uint32_t load_some_codes(const int8_t *from, int32_t count)
{
    uint32_t word = 0;
    while (count > 0) {
        count -= 1;
        word = word << 8 | (uint8_t)from[count];
    }
    return word;
}

/* The first of four codes. */
INLINE int32_t lowest_code(uint32_t codes)
{
    return (int32_t)(codes & 0x7F) - (int32_t)(codes & 0x80);
}

/* Of four codes, the first and the third, widened to a pair. */
INLINE uint32_t even_codes(uint32_t codes)
{
#if DSP_ASM
    uint32_t pair;
    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(codes));
    return pair;
#else
    return pair_of(lowest_code(codes), lowest_code(codes >> 16));
#endif
}

/* Of four codes, the second and the fourth, widened to a pair. */
INLINE uint32_t odd_codes(uint32_t codes)
{
#if DSP_ASM
    uint32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(codes));
    return pair;
#else
    return even_codes(codes >> 8);
#endif
}

/* acc + low * low + high * high. */
INLINE int32_t dot_pair(uint32_t a, uint32_t b, int32_t acc)
{
#if DSP_ASM
    int32_t sum;
    __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return acc + low_half(a) * low_half(b) + high_half(a) * high_half(b);
#endif
}

/* acc + low of a * low of b. */
INLINE int32_t dot_low_low(uint32_t a, uint32_t b, int32_t acc)
{
#if DSP_ASM
    int32_t sum;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return acc + low_half(a) * low_half(b);
#endif
}

/* acc + low of a * high of b. */
INLINE int32_t dot_low_high(uint32_t a, uint32_t b, int32_t acc)
{
#if DSP_ASM
    int32_t sum;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return acc + low_half(a) * high_half(b);
#endif
}

/* value, or the nearest number of 8 bits. */
INLINE int32_t saturate(int32_t value)
{
#if DSP_ASM
    int32_t code;
    __asm__("ssat %0, #8, %1" : "=r"(code) : "r"(value) : "cc");
    return code;
#else
    return value < -128 ? -128 : value > 127 ? 127 : value;
#endif
}

/* (a * b >> 32) + c. */
INLINE int32_t high_product(int32_t a, int32_t b, int32_t c)
{
#if DSP_ASM
    int32_t sum;
    __asm__("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
#else
    return (int32_t)((int64_t)a * b >> 32) + c;
#endif
}

/* Arguments of codes_2x3, of which the assembly below knows the offsets. */
struct codes_2x3 {
    /* Of dot_2x3. */
    int32_t groups;
    const int16_t *columns;
    const int8_t *weight;
    /* For each channel. */
    const int32_t *bias;
    const int32_t *factor;
    /* A code is ((sum * factor >> 32) + offset) >> shift, or the nearest code. */
    int32_t offset;
    int32_t shift;
    /* Where the codes of three positions go. */
    int8_t *y[3];
    /* Half the number of channels, > 0. */
    int32_t pairs;
};

#if DSP_ASM
/*
 * The inner loops are functions in assembly as a whole, because they use all registers but sp: the
 * operands of an asm statement could not, for a compiler wants some of them for itself. Their twins below
 * say what they do.
 */
#if defined(__clang__)
#define NAKED static __attribute__((naked, noinline, unused))
#else
#define NAKED static __attribute__((naked, noipa, unused))
#endif
#define ARGUMENT __attribute__((unused))

/* r6..r11: the sums. r0, r3, r12: pairs of the columns. r4, r5: weights of a and b. lr: pairs of them. */
#define DOT_2X3_GROUP                 \
    "ldrd    r4, r5, [r2], #8     \n" \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "sxtb16  lr, r4               \n" \
    "smlad   r6, lr, r0, r6       \n" \
    "smlad   r7, lr, r3, r7       \n" \
    "smlad   r8, lr, r12, r8      \n" \
    "sxtb16  lr, r5               \n" \
    "smlad   r9, lr, r0, r9       \n" \
    "smlad   r10, lr, r3, r10     \n" \
    "smlad   r11, lr, r12, r11    \n" \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "sxtb16  lr, r4, ror #8       \n" \
    "smlad   r6, lr, r0, r6       \n" \
    "smlad   r7, lr, r3, r7       \n" \
    "smlad   r8, lr, r12, r8      \n" \
    "sxtb16  lr, r5, ror #8       \n" \
    "smlad   r9, lr, r0, r9       \n" \
    "smlad   r10, lr, r3, r10     \n" \
    "smlad   r11, lr, r12, r11    \n"

NAKED void dot_2x3(ARGUMENT int32_t sums[6], ARGUMENT const int16_t *x, ARGUMENT const int8_t *weight,
                   ARGUMENT int32_t groups)
{
    __asm__ volatile(
        "lsls    r12, r3, #31         \n" /* Two groups at a time; an odd one begins in the middle. */
        "add     r3, r3, r3, lsl #1   \n"
        "add     r3, r1, r3, lsl #3   \n" /* x + 24 bytes * groups */
        "push    {r0, r3-r11, lr}     \n"
        "ldmia   r0, {r6-r11}         \n"
        "bne     2f                   \n"
        "1:                           \n"
        DOT_2X3_GROUP
        "2:                           \n"
        DOT_2X3_GROUP
        "ldr     lr, [sp, #4]         \n"
        "cmp     r1, lr               \n"
        "bne     1b                   \n"
        "ldr     r0, [sp]             \n"
        "stmia   r0, {r6-r11}         \n"
        "pop     {r0, r3-r11, pc}     \n" ::: "memory");
}

/* As above. Outside the inner loop, r0, r3: factors. r4, r5: offset and shift. r1, r12, lr: y. */
#define CODE_OF(sum, factor)                    \
    "smmla   " sum ", " sum ", " factor ", r4\n" \
    "asr     " sum ", " sum ", r5           \n" \
    "ssat    " sum ", #8, " sum "           \n"

NAKED void codes_2x3(ARGUMENT struct codes_2x3 *p)
{
    __asm__ volatile(
        "ldrd    r1, r3, [r0]         \n" /* groups, columns */
        "add     r1, r1, r1, lsl #1   \n"
        "add     r3, r3, r1, lsl #3   \n" /* x + 24 bytes * groups */
        "ldr     r2, [r0, #8]         \n" /* weight */
        "push    {r0, r3-r11, lr}     \n"
        "0:                           \n"
        "ldr     r12, [r0, #12]       \n" /* bias */
        "ldrd    r6, r9, [r12], #8    \n"
        "str     r12, [r0, #12]       \n"
        "mov     r7, r6               \n"
        "mov     r8, r6               \n"
        "mov     r10, r9              \n"
        "mov     r11, r9              \n"
        "ldrd    r3, r1, [r0]         \n" /* groups, columns */
        "lsls    r3, r3, #31          \n"
        "bne     2f                   \n"
        "1:                           \n"
        DOT_2X3_GROUP
        "2:                           \n"
        DOT_2X3_GROUP
        "ldr     lr, [sp, #4]         \n"
        "cmp     r1, lr               \n"
        "bne     1b                   \n"
        "ldr     r12, [sp]            \n"
        "ldr     r1, [r12, #16]       \n" /* factor */
        "ldrd    r0, r3, [r1], #8     \n"
        "str     r1, [r12, #16]       \n"
        "ldrd    r4, r5, [r12, #20]   \n" /* offset, shift */
        "add     r12, r12, #28        \n"
        "ldmia   r12, {r1, r12, lr}   \n" /* y */
        CODE_OF("r6", "r0")
        CODE_OF("r7", "r0")
        CODE_OF("r8", "r0")
        CODE_OF("r9", "r3")
        CODE_OF("r10", "r3")
        CODE_OF("r11", "r3")
        "strb    r6, [r1], #1         \n"
        "strb    r9, [r1], #1         \n"
        "strb    r7, [r12], #1        \n"
        "strb    r10, [r12], #1       \n"
        "strb    r8, [lr], #1         \n"
        "strb    r11, [lr], #1        \n"
        "ldr     r0, [sp]             \n"
        "add     r3, r0, #28          \n"
        "stmia   r3, {r1, r12, lr}    \n"
        "ldr     r3, [r0, #40]        \n" /* pairs */
        "subs    r3, r3, #1           \n"
        "str     r3, [r0, #40]        \n"
        "bne     0b                   \n"
        "pop     {r0, r3-r11, pc}     \n" ::: "memory");
}

/* r8..r11: the sums. r0, r7: pairs of x. r3..r6: weights. r12: pairs of them. lr: the end of x. */
#define DOT_4_ROW(row, sum)                    \
    "sxtb16  r12, " row "                  \n" \
    "sxtb16  " row ", " row ", ror #8      \n" \
    "smlad   " sum ", r12, r0, " sum "     \n" \
    "smlad   " sum ", " row ", r7, " sum " \n"
#define DOT_4_GROUP                   \
    "ldr     r0, [r1], #4         \n" \
    "ldmia   r2!, {r3-r6}         \n" \
    "sxtb16  r7, r0, ror #8       \n" \
    "sxtb16  r0, r0               \n" \
    DOT_4_ROW("r3", "r8")             \
    DOT_4_ROW("r4", "r9")             \
    DOT_4_ROW("r5", "r10")            \
    DOT_4_ROW("r6", "r11")

NAKED void dot_4(ARGUMENT int32_t sums[4], ARGUMENT const int8_t *x, ARGUMENT const int8_t *weight,
                 ARGUMENT int32_t groups)
{
    __asm__ volatile(
        "push    {r0, r4-r11, lr}     \n"
        "add     lr, r1, r3, lsl #2   \n"
        "lsls    r12, r3, #31         \n" /* Two groups at a time; an odd one begins in the middle. */
        "ldmia   r0, {r8-r11}         \n"
        "bne     2f                   \n"
        "1:                           \n"
        DOT_4_GROUP
        "2:                           \n"
        DOT_4_GROUP
        "cmp     r1, lr               \n"
        "bne     1b                   \n"
        "ldr     r0, [sp]             \n"
        "stmia   r0, {r8-r11}         \n"
        "pop     {r0, r4-r11, pc}     \n" ::: "memory");
}

#else

/*
 * Adds to sums, [2][3], the products of two rows of weights and three columns of x, in groups of 4 of
 * each: weights w[0][0..4], w[1][0..4], and x as pairs (x[0], x[2]) of the three columns, then pairs
 * (x[1], x[3]). groups > 0; x and weight are at multiples of 4 bytes.
 */
OUTLINE void dot_2x3(int32_t sums[6], const int16_t *x, const int8_t *weight, int32_t groups)
{
    int32_t i;
    for (; groups > 0; groups--) {
        uint32_t a = load_codes(weight), b = load_codes(weight + 4);
        for (i = 0; i < 3; i++) {
            uint32_t even = load_pair(x + 2 * i), odd = load_pair(x + 2 * i + 6);
            sums[i] = dot_pair(odd_codes(a), odd, dot_pair(even_codes(a), even, sums[i]));
            sums[i + 3] = dot_pair(odd_codes(b), odd, dot_pair(even_codes(b), even, sums[i + 3]));
        }
        x += 12;
        weight += 8;
    }
}

/* The rescaled codes of pairs of channels at three positions; all pointers move on. */
OUTLINE void codes_2x3(struct codes_2x3 *p)
{
    int32_t i, o;
    for (; p->pairs > 0; p->pairs--) {
        int32_t sums[6];
        sums[0] = sums[1] = sums[2] = p->bias[0];
        sums[3] = sums[4] = sums[5] = p->bias[1];
        dot_2x3(sums, p->columns, p->weight, p->groups);
        for (o = 0; o < 2; o++) {
            for (i = 0; i < 3; i++) {
                int32_t q = high_product(sums[o * 3 + i], p->factor[o], p->offset) >> p->shift;
                *p->y[i]++ = (int8_t)saturate(q);
            }
        }
        p->weight += p->groups * 8;
        p->bias += 2;
        p->factor += 2;
    }
}

/*
 * Adds to sums the products of four rows of weights and the codes x, in groups of 4 of each. groups > 0;
 * weight is at a multiple of 4 bytes.
 */
OUTLINE void dot_4(int32_t sums[4], const int8_t *x, const int8_t *weight, int32_t groups)
{
    int32_t i;
    for (; groups > 0; groups--) {
        uint32_t codes = load_codes(x), even = even_codes(codes), odd = odd_codes(codes);
        for (i = 0; i < 4; i++) {
            uint32_t row = load_codes(weight + 4 * i);
            sums[i] = dot_pair(odd_codes(row), odd, dot_pair(even_codes(row), even, sums[i]));
        }
        x += 4;
        weight += 16;
    }
}
#endif

#endif
