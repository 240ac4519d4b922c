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

/* The sum modulo 2^32, as the processor adds. */
INLINE int32_t add_modulo(int32_t a, int32_t b)
{
    uint32_t sum = (uint32_t)a + (uint32_t)b;
    return sum <= 0x7FFFFFFF ? (int32_t)sum : -(int32_t)~sum - 1;
}

/* acc + low * low + high * high, modulo 2^32. */
INLINE int32_t dot_pair(uint32_t a, uint32_t b, int32_t acc)
{
#if DSP_ASM
    int32_t sum;
    __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return add_modulo(add_modulo(acc, low_half(a) * low_half(b)), high_half(a) * high_half(b));
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

/*
 * The weights of dot_2x3 and codes_2x3 in groups of 4 of a row a and 4 of a row b, at a multiple of 4 bytes:
 *
 *     8 bits     one word of the weights of a, one of those of b
 *     4 bits     one word, each half byte a weight plus 8: a0 a1 b0 b1 a2 a3 b2 b3, the lowest bits first
 *
 * What is added in excess to sums of products with half bytes is 8 times the sum of x: they begin with what
 * start_3 and start_1 return, and are right at their end, as all is modulo 2^32.
 */
#define DOT(name) DOT_(name, WEIGHT_BITS)
#define DOT_(name, bits) DOT__(name, bits)
#define DOT__(name, bits) name##_##bits
/* Never called. */
#define dot_2x3_16 dot_2x3_8
#define codes_2x3_16 codes_2x3_8
#define dot_4_16 dot_4_8

/* The half bytes of `four` at bits 0 and 16 of it, counted from `shift` on. */
INLINE uint32_t half_bytes(uint32_t four, int32_t shift)
{
    return (four >> shift) & 0x000F000F;
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
    /* Of weights of 4 bits: start_3. */
    int32_t start[3];
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

/* r6..r11: the sums. r0, r3, r12: pairs of the columns. lr: a pair of weights. */
#define ADD_3(first, second, third)             \
    "smlad   " first ", lr, r0, " first "   \n" \
    "smlad   " second ", lr, r3, " second " \n" \
    "smlad   " third ", lr, r12, " third "  \n"
#define ADD_A ADD_3("r6", "r7", "r8")
#define ADD_B ADD_3("r9", "r10", "r11")

/* r4, r5: weights of a and b. */
#define READY_8 ""
#define GROUP_8                       \
    "ldrd    r4, r5, [r2], #8     \n" \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "sxtb16  lr, r4               \n" \
    ADD_A                             \
    "sxtb16  lr, r5               \n" \
    ADD_B                             \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "sxtb16  lr, r4, ror #8       \n" \
    ADD_A                             \
    "sxtb16  lr, r5, ror #8       \n" \
    ADD_B

/* r4: weights. r5: which bits a pair of half bytes has. */
#define READY_4 "mov     r5, #0x000F000F      \n"
#define GROUP_4                       \
    "ldr     r4, [r2], #4         \n" \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "and     lr, r5, r4           \n" \
    ADD_A                             \
    "and     lr, r5, r4, lsr #8   \n" \
    ADD_B                             \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "and     lr, r5, r4, lsr #4   \n" \
    ADD_A                             \
    "and     lr, r5, r4, lsr #12  \n" \
    ADD_B

#define DOT_2X3(name, ready, group)                                                                      \
    NAKED void name(ARGUMENT int32_t sums[6], ARGUMENT const int16_t *x, ARGUMENT const int8_t *weight,  \
                    ARGUMENT int32_t groups)                                                             \
    {                                                                                                    \
        __asm__ volatile(                                                                                \
            /* Two groups at a time; an odd one begins in the middle. */                                 \
            "lsls    r12, r3, #31         \n"                                                            \
            "add     r3, r3, r3, lsl #1   \n"                                                            \
            /* x + 24 bytes * groups */                                                                  \
            "add     r3, r1, r3, lsl #3   \n"                                                            \
            "push    {r0, r3-r11, lr}     \n"                                                            \
            "ldmia   r0, {r6-r11}         \n"                                                            \
            ready                                                                                        \
            "bne     2f                   \n"                                                            \
            "1:                           \n"                                                            \
            group                                                                                        \
            "2:                           \n"                                                            \
            group                                                                                        \
            "ldr     lr, [sp, #4]         \n"                                                            \
            "cmp     r1, lr               \n"                                                            \
            "bne     1b                   \n"                                                            \
            "ldr     r0, [sp]             \n"                                                            \
            "stmia   r0, {r6-r11}         \n"                                                            \
            "pop     {r0, r3-r11, pc}     \n" ::: "memory");                                             \
    }

DOT_2X3(dot_2x3_4, READY_4, GROUP_4)
DOT_2X3(dot_2x3_8, READY_8, GROUP_8)

/* From r6, r9, the bias of a and b. */
#define BEGIN_8                       \
    "mov     r7, r6               \n" \
    "mov     r8, r6               \n" \
    "mov     r10, r9              \n" \
    "mov     r11, r9              \n"
#define BEGIN_4                       \
    "add     r12, r0, #44         \n" \
    "ldmia   r12, {r3, r4, r5}    \n" /* start */ \
    "add     r7, r6, r4           \n" \
    "add     r8, r6, r5           \n" \
    "add     r6, r6, r3           \n" \
    "add     r10, r9, r4          \n" \
    "add     r11, r9, r5          \n" \
    "add     r9, r9, r3           \n"

/* Outside the inner loop, r0, r3: factors. r4, r5: offset and shift. r1, r12, lr: y. */
#define CODE_OF(sum, factor)                    \
    "smmla   " sum ", " sum ", " factor ", r4\n" \
    "asr     " sum ", " sum ", r5           \n" \
    "ssat    " sum ", #8, " sum "           \n"

#define CODES_2X3(name, begin, ready, group)                  \
    NAKED void name(ARGUMENT struct codes_2x3 *p)             \
    {                                                         \
        __asm__ volatile(                                     \
            "ldrd    r1, r3, [r0]         \n" /* groups, columns */ \
            "add     r1, r1, r1, lsl #1   \n"                 \
            "add     r3, r3, r1, lsl #3   \n" /* x + 24 bytes * groups */ \
            "ldr     r2, [r0, #8]         \n" /* weight */    \
            "push    {r0, r3-r11, lr}     \n"                 \
            "0:                           \n"                 \
            "ldr     r12, [r0, #12]       \n" /* bias */      \
            "ldrd    r6, r9, [r12], #8    \n"                 \
            "str     r12, [r0, #12]       \n"                 \
            begin                                             \
            ready                                             \
            "ldrd    r3, r1, [r0]         \n" /* groups, columns */ \
            "lsls    r3, r3, #31          \n"                 \
            "bne     2f                   \n"                 \
            "1:                           \n"                 \
            group                                             \
            "2:                           \n"                 \
            group                                             \
            "ldr     lr, [sp, #4]         \n"                 \
            "cmp     r1, lr               \n"                 \
            "bne     1b                   \n"                 \
            "ldr     r12, [sp]            \n"                 \
            "ldr     r1, [r12, #16]       \n" /* factor */    \
            "ldrd    r0, r3, [r1], #8     \n"                 \
            "str     r1, [r12, #16]       \n"                 \
            "ldrd    r4, r5, [r12, #20]   \n" /* offset, shift */ \
            "add     r12, r12, #28        \n"                 \
            "ldmia   r12, {r1, r12, lr}   \n" /* y */         \
            CODE_OF("r6", "r0")                               \
            CODE_OF("r7", "r0")                               \
            CODE_OF("r8", "r0")                               \
            CODE_OF("r9", "r3")                               \
            CODE_OF("r10", "r3")                              \
            CODE_OF("r11", "r3")                              \
            "strb    r6, [r1], #1         \n"                 \
            "strb    r9, [r1], #1         \n"                 \
            "strb    r7, [r12], #1        \n"                 \
            "strb    r10, [r12], #1       \n"                 \
            "strb    r8, [lr], #1         \n"                 \
            "strb    r11, [lr], #1        \n"                 \
            "ldr     r0, [sp]             \n"                 \
            "add     r3, r0, #28          \n"                 \
            "stmia   r3, {r1, r12, lr}    \n"                 \
            "ldr     r3, [r0, #40]        \n" /* pairs */     \
            "subs    r3, r3, #1           \n"                 \
            "str     r3, [r0, #40]        \n"                 \
            "bne     0b                   \n"                 \
            "pop     {r0, r3-r11, pc}     \n" ::: "memory");  \
    }

CODES_2X3(codes_2x3_4, BEGIN_4, READY_4, GROUP_4)
CODES_2X3(codes_2x3_8, BEGIN_8, READY_8, GROUP_8)

/* r9..r11: the sums. r3..r8: pairs of x. r12: the pair (-8, -8). r2: the end of x. */
NAKED void start_3(ARGUMENT int32_t start[3], ARGUMENT const int16_t *x, ARGUMENT int32_t groups)
{
    __asm__ volatile(
        "push    {r4-r11}             \n"
        "add     r2, r2, r2, lsl #1   \n"
        "add     r2, r1, r2, lsl #3   \n" /* x + 24 bytes * groups */
        "mov     r9, #0               \n"
        "mov     r10, #0              \n"
        "mov     r11, #0              \n"
        "mvn     r12, #0x00070007     \n"
        "1:                           \n"
        "ldmia   r1!, {r3-r8}         \n"
        "smlad   r9, r3, r12, r9      \n"
        "smlad   r10, r4, r12, r10    \n"
        "smlad   r11, r5, r12, r11    \n"
        "smlad   r9, r6, r12, r9      \n"
        "smlad   r10, r7, r12, r10    \n"
        "smlad   r11, r8, r12, r11    \n"
        "cmp     r1, r2               \n"
        "bne     1b                   \n"
        "stmia   r0, {r9-r11}         \n"
        "pop     {r4-r11}             \n"
        "bx      lr                   \n" ::: "memory");
}

/* r8..r11: the sums. r0, r7: pairs of x. lr: the end of x. */
#define DOT_4_X                       \
    "ldr     r0, [r1], #4         \n" \
    "sxtb16  r7, r0, ror #8       \n" \
    "sxtb16  r0, r0               \n"

/* r3..r6: weights. r12: pairs of them. */
#define DOT_4_ROW_8(row, sum)                  \
    "sxtb16  r12, " row "                  \n" \
    "sxtb16  " row ", " row ", ror #8      \n" \
    "smlad   " sum ", r12, r0, " sum "     \n" \
    "smlad   " sum ", " row ", r7, " sum " \n"
#define DOT_4_GROUP_8                 \
    "ldmia   r2!, {r3-r6}         \n" \
    DOT_4_ROW_8("r3", "r8")           \
    DOT_4_ROW_8("r4", "r9")           \
    DOT_4_ROW_8("r5", "r10")          \
    DOT_4_ROW_8("r6", "r11")

/* r3, r4: weights. r6, r12: pairs of them. r5 as above. */
#define DOT_4_ROW_4(row, even, odd, sum)       \
    "and     r12, r5, " row even "         \n" \
    "and     r6, r5, " row odd "           \n" \
    "smlad   " sum ", r12, r0, " sum "     \n" \
    "smlad   " sum ", r6, r7, " sum "      \n"
#define DOT_4_GROUP_4                             \
    "ldmia   r2!, {r3, r4}        \n"             \
    DOT_4_ROW_4("r3", "", ", lsr #4", "r8")       \
    DOT_4_ROW_4("r3", ", lsr #8", ", lsr #12", "r9") \
    DOT_4_ROW_4("r4", "", ", lsr #4", "r10")      \
    DOT_4_ROW_4("r4", ", lsr #8", ", lsr #12", "r11")

#define DOT_4(name, ready, group)                                                                      \
    NAKED void name(ARGUMENT int32_t sums[4], ARGUMENT const int8_t *x, ARGUMENT const int8_t *weight, \
                    ARGUMENT int32_t groups)                                                           \
    {                                                                                                  \
        __asm__ volatile(                                                                              \
            "push    {r0, r4-r11, lr}     \n"                                                          \
            "add     lr, r1, r3, lsl #2   \n"                                                          \
            /* Two groups at a time; an odd one begins in the middle. */                               \
            "lsls    r12, r3, #31         \n"                                                          \
            "ldmia   r0, {r8-r11}         \n"                                                          \
            ready                                                                                      \
            "bne     2f                   \n"                                                          \
            "1:                           \n"                                                          \
            DOT_4_X group                                                                              \
            "2:                           \n"                                                          \
            DOT_4_X group                                                                              \
            "cmp     r1, lr               \n"                                                          \
            "bne     1b                   \n"                                                          \
            "ldr     r0, [sp]             \n"                                                          \
            "stmia   r0, {r8-r11}         \n"                                                          \
            "pop     {r0, r4-r11, pc}     \n" ::: "memory");                                           \
    }

DOT_4(dot_4_4, READY_4, DOT_4_GROUP_4)
DOT_4(dot_4_8, READY_8, DOT_4_GROUP_8)

#else

/* Of a group of two rows, pair i, 0 or 1, of row o, 0 or 1. */
INLINE uint32_t weight_pair(const int8_t *group, int32_t bits, int32_t o, int32_t i)
{
    if (bits == 4) {
        return half_bytes(load_codes(group), 8 * o + 4 * i);
    }
    return i == 0 ? even_codes(load_codes(group + 4 * o)) : odd_codes(load_codes(group + 4 * o));
}

/*
 * Adds to sums, [2][3], the products of two rows of weights of 4 or 8 bits and three columns of x, in
 * groups of 4 of each: x as pairs (x[0], x[2]) of the three columns, then pairs (x[1], x[3]). groups > 0;
 * x is at a multiple of 4 bytes.
 */
INLINE void dot_2x3(int32_t sums[6], const int16_t *x, const int8_t *weight, int32_t groups, int32_t bits)
{
    int32_t i, o;
    for (; groups > 0; groups--) {
        for (i = 0; i < 6; i++) {
            o = i / 3;
            sums[i] = dot_pair(weight_pair(weight, bits, o, 0), load_pair(x + 2 * (i % 3)), sums[i]);
            sums[i] = dot_pair(weight_pair(weight, bits, o, 1), load_pair(x + 2 * (i % 3) + 6), sums[i]);
        }
        x += 12;
        weight += bits;
    }
}

OUTLINE void dot_2x3_4(int32_t sums[6], const int16_t *x, const int8_t *weight, int32_t groups)
{
    dot_2x3(sums, x, weight, groups, 4);
}

OUTLINE void dot_2x3_8(int32_t sums[6], const int16_t *x, const int8_t *weight, int32_t groups)
{
    dot_2x3(sums, x, weight, groups, 8);
}

/* The rescaled codes of pairs of channels at three positions; all pointers move on. */
INLINE void codes_2x3(struct codes_2x3 *p, int32_t bits)
{
    int32_t i, o;
    for (; p->pairs > 0; p->pairs--) {
        int32_t sums[6];
        for (i = 0; i < 6; i++) {
            sums[i] = add_modulo(p->bias[i / 3], bits == 4 ? p->start[i % 3] : 0);
        }
        dot_2x3(sums, p->columns, p->weight, p->groups, bits);
        for (o = 0; o < 2; o++) {
            for (i = 0; i < 3; i++) {
                int32_t q = high_product(sums[o * 3 + i], p->factor[o], p->offset) >> p->shift;
                *p->y[i]++ = (int8_t)saturate(q);
            }
        }
        p->weight += p->groups * bits;
        p->bias += 2;
        p->factor += 2;
    }
}

OUTLINE void codes_2x3_4(struct codes_2x3 *p)
{
    codes_2x3(p, 4);
}

OUTLINE void codes_2x3_8(struct codes_2x3 *p)
{
    codes_2x3(p, 8);
}

/* -8 times the sum of each of three columns. */
OUTLINE void start_3(int32_t start[3], const int16_t *x, int32_t groups)
{
    int32_t i;
    start[0] = start[1] = start[2] = 0;
    for (; groups > 0; groups--) {
        for (i = 0; i < 6; i++) {
            start[i % 3] = dot_pair(load_pair(x + 2 * i), pair_of(-8, -8), start[i % 3]);
        }
        x += 12;
    }
}

/*
 * Adds to sums the products of four rows of weights and the codes x, in groups of 4 of each: of the rows 0
 * and 1, then of the rows 2 and 3. groups > 0.
 */
INLINE void dot_4(int32_t sums[4], const int8_t *x, const int8_t *weight, int32_t groups, int32_t bits)
{
    int32_t i;
    for (; groups > 0; groups--) {
        uint32_t codes = load_codes(x), even = even_codes(codes), odd = odd_codes(codes);
        for (i = 0; i < 4; i++) {
            const int8_t *rows = weight + i / 2 * bits;
            sums[i] = dot_pair(weight_pair(rows, bits, i % 2, 0), even, sums[i]);
            sums[i] = dot_pair(weight_pair(rows, bits, i % 2, 1), odd, sums[i]);
        }
        x += 4;
        weight += 2 * bits;
    }
}

OUTLINE void dot_4_4(int32_t sums[4], const int8_t *x, const int8_t *weight, int32_t groups)
{
    dot_4(sums, x, weight, groups, 4);
}

OUTLINE void dot_4_8(int32_t sums[4], const int8_t *x, const int8_t *weight, int32_t groups)
{
    dot_4(sums, x, weight, groups, 8);
}
#endif

/* -8 times the sum of x. */
OUTLINE int32_t start_1(const int8_t *x, int32_t groups)
{
    int32_t start = 0;
    for (; groups > 0; groups--) {
        uint32_t codes = load_codes(x), eights = pair_of(-8, -8);
        start = dot_pair(odd_codes(codes), eights, dot_pair(even_codes(codes), eights, start));
        x += 4;
    }
    return start;
}

#endif
