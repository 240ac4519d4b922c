/*
 * The instructions of Arm's DSP extension (Cortex-M4, M7, M33, ...) that the matrix products use: pairs
 * of signed 16-bit numbers in one word, low half first. Each has a twin in portable C99.
 *
 * NAIVE_PTQ_DSP, or NET_DSP, chooses the code built from them. It is 1 where the compiler announces the
 * extension; defining it as 1 elsewhere runs the same code with the twins, and 0 turns it off. Other processors
 * may define NAIVE_PTQ_DOT_PAIR, NAIVE_PTQ_SATURATE and NAIVE_PTQ_HIGH_PRODUCT, as dot_pair, saturate and
 * high_product say below.
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

#ifndef NAIVE_PTQ_DSP
#ifdef NET_DSP
#define NAIVE_PTQ_DSP NET_DSP
#else
#define NAIVE_PTQ_DSP DSP_ASM
#endif
#endif

/* INLINE: to be folded with its constants at every call. OUTLINE: one copy, shared by all layers. */
#ifndef INLINE
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
#endif
#ifndef OUTLINE
#if defined(__clang__)
#define OUTLINE static __attribute__((noinline, unused))
#elif defined(__GNUC__)
#define OUTLINE static __attribute__((noinline, noclone, unused))
#else
#define OUTLINE static inline
#endif
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

/* The low halves of two words, and the high halves. */
INLINE uint32_t low_halves(uint32_t a, uint32_t b)
{
#if DSP_ASM
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
#else
    return (a & 0xFFFF) | b << 16;
#endif
}

INLINE uint32_t high_halves(uint32_t a, uint32_t b)
{
#if DSP_ASM
    uint32_t pair;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(pair) : "r"(b), "r"(a));
    return pair;
#else
    return a >> 16 | (b & 0xFFFF0000u);
#endif
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
#elif defined(NAIVE_PTQ_DOT_PAIR)
    return NAIVE_PTQ_DOT_PAIR(a, b, acc);
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

/* value, or the nearest number of 8 or 16 bits. */
INLINE int32_t saturate(int32_t value, int bits)
{
#if DSP_ASM
    int32_t code;
    if (bits == 8) {
        __asm__("ssat %0, #8, %1" : "=r"(code) : "r"(value) : "cc");
    } else {
        __asm__("ssat %0, #16, %1" : "=r"(code) : "r"(value) : "cc");
    }
    return code;
#elif defined(NAIVE_PTQ_SATURATE)
    return NAIVE_PTQ_SATURATE(value, bits);
#else
    int32_t end = 1 << (bits - 1);
    return value < -end ? -end : value >= end ? end - 1 : value;
#endif
}

/* (a * b >> 32) + c. */
INLINE int32_t high_product(int32_t a, int32_t b, int32_t c)
{
#if DSP_ASM
    int32_t sum;
    __asm__("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
#elif defined(NAIVE_PTQ_HIGH_PRODUCT)
    return NAIVE_PTQ_HIGH_PRODUCT(a, b, c);
#else
    return (int32_t)((int64_t)a * b >> 32) + c;
#endif
}

/*
 * The inner loops take weights in groups of 4 of a row a and 4 of a row b, at a multiple of 4 bytes:
 *
 *     16 bits    two words of the weights of a, two of those of b
 *     8 bits     one word of the weights of a, one of those of b
 *     4 bits     one word, each half byte a weight plus 8: a0 a1 b0 b1 a2 a3 b2 b3, the lowest bits first
 *
 * What is added in excess to sums of products with half bytes is 8 times the sum of x: they begin with what
 * start_3 and start_1 return, and are right at their end, as all is modulo 2^32.
 */
#define DOT(name) DOT_(name, WEIGHT_BITS)
#define DOT_(name, bits) DOT__(name, bits)
#define DOT__(name, bits) name##_##bits
/* For codes of x or y of so many bits. */
#define DOT_OF(name, bits) DOT_OF_(name, bits, WEIGHT_BITS)
#define DOT_OF_(name, of, bits) DOT_OF__(name, of, bits)
#define DOT_OF__(name, of, bits) name##_##of##_##bits

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
    void *y[3];
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

/* r4, lr: weights of a. r5: of b. */
#define READY_16 ""
#define GROUP_16                      \
    "ldrd    r4, lr, [r2], #8     \n" \
    "ldr     r5, [r2], #4         \n" \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    "smlad   r6, r4, r0, r6       \n" \
    "smlad   r7, r4, r3, r7       \n" \
    "smlad   r8, r4, r12, r8      \n" \
    "smlad   r9, r5, r0, r9       \n" \
    "smlad   r10, r5, r3, r10     \n" \
    "smlad   r11, r5, r12, r11    \n" \
    "ldmia   r1!, {r0, r3, r12}   \n" \
    ADD_A                             \
    "ldr     lr, [r2], #4         \n" \
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
DOT_2X3(dot_2x3_16, READY_16, GROUP_16)

/* r6..r11: the sums, low words first. r0, r3, r12: pairs of the columns. r4, r5: pairs of weights. */
#define ADD_3_WIDE(pair)                  \
    "ldmia   r1!, {r0, r3, r12}       \n" \
    "smlald  r6, r7, " pair ", r0     \n" \
    "smlald  r8, r9, " pair ", r3     \n" \
    "smlald  r10, r11, " pair ", r12  \n"
#define ROW_8                         \
    "ldr     r4, [r2], #8         \n" \
    "sxtb16  r5, r4, ror #8       \n" \
    "sxtb16  r4, r4               \n"
#define ROW_16 "ldrd    r4, r5, [r2], #16    \n"

#define DOT_1X3_WIDE(name, row)                                                                          \
    NAKED void name(ARGUMENT int64_t sums[3], ARGUMENT const int16_t *x, ARGUMENT const int8_t *weight,  \
                    ARGUMENT int32_t groups)                                                             \
    {                                                                                                    \
        __asm__ volatile(                                                                                \
            "push    {r0, r4-r11, lr}     \n"                                                            \
            "add     lr, r3, r3, lsl #1   \n"                                                            \
            /* x + 24 bytes * groups */                                                                  \
            "add     lr, r1, lr, lsl #3   \n"                                                            \
            "ldmia   r0, {r6-r11}         \n"                                                            \
            "1:                           \n"                                                            \
            row                                                                                          \
            ADD_3_WIDE("r4")                                                                             \
            ADD_3_WIDE("r5")                                                                             \
            "cmp     r1, lr               \n"                                                            \
            "bne     1b                   \n"                                                            \
            "ldr     r0, [sp]             \n"                                                            \
            "stmia   r0, {r6-r11}         \n"                                                            \
            "pop     {r0, r4-r11, pc}     \n" ::: "memory");                                             \
    }

DOT_1X3_WIDE(dot_1x3_wide_8, ROW_8)
DOT_1X3_WIDE(dot_1x3_wide_16, ROW_16)

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

#define BEGIN_16 BEGIN_8

/* Outside the inner loop, r0, r3: factors. r4, r5: offset and shift. r1, r12, lr: y. */
#define CODE_OF(sum, factor, bits)              \
    "smmla   " sum ", " sum ", " factor ", r4\n" \
    "asr     " sum ", " sum ", r5           \n" \
    "ssat    " sum ", " bits ", " sum "     \n"

/* `bits`, `store` and `step` are those of a code of y. */
#define CODES_2X3(name, begin, ready, group, bits, store, step) \
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
            CODE_OF("r6", "r0", bits)                         \
            CODE_OF("r7", "r0", bits)                         \
            CODE_OF("r8", "r0", bits)                         \
            CODE_OF("r9", "r3", bits)                         \
            CODE_OF("r10", "r3", bits)                        \
            CODE_OF("r11", "r3", bits)                        \
            store "    r6, [r1], " step "\n" \
            store "    r9, [r1], " step "\n" \
            store "    r7, [r12], " step "\n" \
            store "    r10, [r12], " step "\n" \
            store "    r8, [lr], " step "\n" \
            store "    r11, [lr], " step "\n" \
            "ldr     r0, [sp]             \n"                 \
            "add     r3, r0, #28          \n"                 \
            "stmia   r3, {r1, r12, lr}    \n"                 \
            "ldr     r3, [r0, #40]        \n" /* pairs */     \
            "subs    r3, r3, #1           \n"                 \
            "str     r3, [r0, #40]        \n"                 \
            "bne     0b                   \n"                 \
            "pop     {r0, r3-r11, pc}     \n" ::: "memory");  \
    }

#define CODES_8(name, begin, ready, group) CODES_2X3(name, begin, ready, group, "#8", "strb", "#1")
#define CODES_16(name, begin, ready, group) CODES_2X3(name, begin, ready, group, "#16", "strh", "#2")
CODES_8(codes_2x3_8_4, BEGIN_4, READY_4, GROUP_4)
CODES_8(codes_2x3_8_8, BEGIN_8, READY_8, GROUP_8)
CODES_8(codes_2x3_8_16, BEGIN_16, READY_16, GROUP_16)
CODES_16(codes_2x3_16_4, BEGIN_4, READY_4, GROUP_4)
CODES_16(codes_2x3_16_8, BEGIN_8, READY_8, GROUP_8)
CODES_16(codes_2x3_16_16, BEGIN_16, READY_16, GROUP_16)

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

/* Pairs of x, in r0 and `odd`: of the codes 0 and 2, and of 1 and 3; beside weights of 16 bits of 0 and 1, and
   of 2 and 3. */
#define DOT_4_X_8(odd)                    \
    "ldr     r0, [r1], #4             \n" \
    "sxtb16  " odd ", r0, ror #8      \n" \
    "sxtb16  r0, r0                   \n"
#define DOT_4_X_8_16(odd)                 \
    DOT_4_X_8(odd)                        \
    "pkhbt   r12, r0, " odd ", lsl #16\n" \
    "pkhtb   " odd ", " odd ", r0, asr #16\n" \
    "mov     r0, r12                  \n"
#define DOT_4_X_16(odd)                   \
    "ldrd    r0, r12, [r1], #8        \n" \
    "pkhtb   " odd ", r12, r0, asr #16\n" \
    "pkhbt   r0, r0, r12, lsl #16     \n"
#define DOT_4_X_16_16(odd) "ldrd    r0, " odd ", [r1], #8    \n"

/* r8..r11: the sums. r0, r7: pairs of x. lr: the end of x. */
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

/* r3, r4: weights. */
#define DOT_4_ROW_16(sum)                  \
    "ldrd    r3, r4, [r2], #8          \n" \
    "smlad   " sum ", r3, r0, " sum "  \n" \
    "smlad   " sum ", r4, r7, " sum "  \n"
#define DOT_4_GROUP_16 DOT_4_ROW_16("r8") DOT_4_ROW_16("r9") DOT_4_ROW_16("r10") DOT_4_ROW_16("r11")

/* `step`: the bytes of four codes of x are 1 shifted by it. */
#define DOT_4(name, step, codes, ready, group)                                                                      \
    NAKED void name(ARGUMENT int32_t sums[4], ARGUMENT const void *x, ARGUMENT const int8_t *weight,   \
                    ARGUMENT int32_t groups)                                                           \
    {                                                                                                  \
        __asm__ volatile(                                                                              \
            "push    {r0, r4-r11, lr}     \n"                                                          \
            "add     lr, r1, r3, lsl " step "\n"                                                       \
            /* Two groups at a time; an odd one begins in the middle. */                               \
            "lsls    r12, r3, #31         \n"                                                          \
            "ldmia   r0, {r8-r11}         \n"                                                          \
            ready                                                                                      \
            "bne     2f                   \n"                                                          \
            "1:                           \n"                                                          \
            codes("r7") group                                                                              \
            "2:                           \n"                                                          \
            codes("r7") group                                                                              \
            "cmp     r1, lr               \n"                                                          \
            "bne     1b                   \n"                                                          \
            "ldr     r0, [sp]             \n"                                                          \
            "stmia   r0, {r8-r11}         \n"                                                          \
            "pop     {r0, r4-r11, pc}     \n" ::: "memory");                                           \
    }

DOT_4(dot_4_8_4, "#2", DOT_4_X_8, READY_4, DOT_4_GROUP_4)
DOT_4(dot_4_8_8, "#2", DOT_4_X_8, READY_8, DOT_4_GROUP_8)
DOT_4(dot_4_8_16, "#2", DOT_4_X_8_16, READY_16, DOT_4_GROUP_16)
DOT_4(dot_4_16_4, "#3", DOT_4_X_16, READY_4, DOT_4_GROUP_4)
DOT_4(dot_4_16_8, "#3", DOT_4_X_16, READY_8, DOT_4_GROUP_8)
DOT_4(dot_4_16_16, "#3", DOT_4_X_16_16, READY_16, DOT_4_GROUP_16)

/* r4..r11: the sums, low words first. r0, r3: pairs of x. r12, lr: pairs of weights. */
#define ADD_WIDE(low, high)                    \
    "smlald  " low ", " high ", r12, r0    \n" \
    "smlald  " low ", " high ", lr, r3     \n"
#define WIDE_8                        \
    "ldr     r12, [r2], #4        \n" \
    "sxtb16  lr, r12, ror #8      \n" \
    "sxtb16  r12, r12             \n"
#define WIDE_16 "ldrd    r12, lr, [r2], #8    \n"

#define DOT_4_WIDE(name, step, codes, row)                                                             \
    NAKED void name(ARGUMENT int64_t sums[4], ARGUMENT const void *x, ARGUMENT const int8_t *weight,   \
                    ARGUMENT int32_t groups)                                                           \
    {                                                                                                  \
        __asm__ volatile(                                                                              \
            "add     r3, r1, r3, lsl " step "\n"                                                       \
            "push    {r0, r3-r11, lr}     \n"                                                          \
            "ldmia   r0, {r4-r11}         \n"                                                          \
            "1:                           \n"                                                          \
            codes("r3")                                                                                \
            row ADD_WIDE("r4", "r5")                                                                   \
            row ADD_WIDE("r6", "r7")                                                                   \
            row ADD_WIDE("r8", "r9")                                                                   \
            row ADD_WIDE("r10", "r11")                                                                 \
            "ldr     r0, [sp, #4]         \n"                                                          \
            "cmp     r1, r0               \n"                                                          \
            "bne     1b                   \n"                                                          \
            "ldr     r0, [sp]             \n"                                                          \
            "stmia   r0, {r4-r11}         \n"                                                          \
            "pop     {r0, r3-r11, pc}     \n" ::: "memory");                                           \
    }

DOT_4_WIDE(dot_4_wide_8_8, "#2", DOT_4_X_8, WIDE_8)
DOT_4_WIDE(dot_4_wide_8_16, "#2", DOT_4_X_8_16, WIDE_16)
DOT_4_WIDE(dot_4_wide_16_8, "#3", DOT_4_X_16, WIDE_8)
DOT_4_WIDE(dot_4_wide_16_16, "#3", DOT_4_X_16_16, WIDE_16)

#else

/* Of a group of two rows, pair i, 0 or 1, of row o, 0 or 1. */
INLINE uint32_t weight_pair(const int8_t *group, int32_t bits, int32_t o, int32_t i)
{
    if (bits == 4) {
        return half_bytes(load_codes(group), 8 * o + 4 * i);
    }
    if (bits == 16) {
        return load_pair((const int16_t *)(const void *)group + 4 * o + 2 * i);
    }
    return i == 0 ? even_codes(load_codes(group + 4 * o)) : odd_codes(load_codes(group + 4 * o));
}

/*
 * dot_2x3_B, B the bits of a weight, adds to sums, [2][3], the products of two rows of weights and three
 * columns of x, in groups of 4 of each: x as pairs (x[0], x[2]) of the three columns, then pairs
 * (x[1], x[3]), but beside weights of 16 bits (x[0], x[1]) and (x[2], x[3]). groups > 0; x is at a multiple
 * of 4 bytes.
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

#define DOT_2X3(bits)                                                                                     \
    OUTLINE void dot_2x3_##bits(int32_t sums[6], const int16_t *x, const int8_t *weight, int32_t groups) \
    {                                                                                                     \
        dot_2x3(sums, x, weight, groups, bits);                                                           \
    }
DOT_2X3(4)
DOT_2X3(8)
DOT_2X3(16)

/* acc + low * low + high * high. */
INLINE int64_t dot_pair_wide(uint32_t a, uint32_t b, int64_t acc)
{
    return acc + (int64_t)low_half(a) * low_half(b) + (int64_t)high_half(a) * high_half(b);
}

/* As dot_2x3_B, for the one row at weight, with sums of 64 bits. */
INLINE void dot_1x3_wide(int64_t sums[3], const int16_t *x, const int8_t *weight, int32_t groups, int32_t bits)
{
    int32_t i;
    for (; groups > 0; groups--) {
        for (i = 0; i < 3; i++) {
            sums[i] = dot_pair_wide(weight_pair(weight, bits, 0, 0), load_pair(x + 2 * i), sums[i]);
            sums[i] = dot_pair_wide(weight_pair(weight, bits, 0, 1), load_pair(x + 2 * i + 6), sums[i]);
        }
        x += 12;
        weight += bits;
    }
}

#define DOT_1X3_WIDE(bits)                                                                                     \
    OUTLINE void dot_1x3_wide_##bits(int64_t sums[3], const int16_t *x, const int8_t *weight, int32_t groups) \
    {                                                                                                          \
        dot_1x3_wide(sums, x, weight, groups, bits);                                                           \
    }
DOT_1X3_WIDE(8)
DOT_1X3_WIDE(16)

/* codes_2x3_Y_B, Y the bits of a code of y: the rescaled codes of pairs of channels at three positions. */
INLINE void codes_2x3(struct codes_2x3 *p, int32_t y_bits, int32_t bits)
{
    int32_t i, channel;
    for (channel = 0; channel < 2 * p->pairs; channel++) {
        int32_t sums[6], o = channel % 2;
        for (i = 0; i < 6; i++) {
            sums[i] = add_modulo(p->bias[channel - o + i / 3], bits == 4 ? p->start[i % 3] : 0);
        }
        dot_2x3(sums, p->columns, p->weight + channel / 2 * p->groups * bits, p->groups, bits);
        for (i = 0; i < 3; i++) {
            int32_t q = high_product(sums[o * 3 + i], p->factor[channel], p->offset) >> p->shift;
            q = saturate(q, y_bits);
            if (y_bits == 8) {
                ((int8_t *)p->y[i])[channel] = (int8_t)q;
            } else {
                ((int16_t *)p->y[i])[channel] = (int16_t)q;
            }
        }
    }
}

#define CODES_2X3(y_bits, bits)                                  \
    OUTLINE void codes_2x3_##y_bits##_##bits(struct codes_2x3 *p) \
    {                                                            \
        codes_2x3(p, y_bits, bits);                              \
    }
CODES_2X3(8, 4)
CODES_2X3(8, 8)
CODES_2X3(8, 16)
CODES_2X3(16, 4)
CODES_2X3(16, 8)
CODES_2X3(16, 16)

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

/* Pair i of a group of four codes x, as the columns have them. */
INLINE uint32_t code_pair(const void *x, int32_t x_bits, int32_t bits, int32_t i)
{
    uint32_t first, second;
    if (x_bits == 8) {
        uint32_t codes = load_codes((const int8_t *)x), even = even_codes(codes), odd = odd_codes(codes);
        first = low_halves(even, odd);
        second = high_halves(even, odd);
    } else {
        first = load_pair((const int16_t *)x);
        second = load_pair((const int16_t *)x + 2);
    }
    if (bits == 16) {
        return i == 0 ? first : second;
    }
    return i == 0 ? low_halves(first, second) : high_halves(first, second);
}

/*
 * dot_4_X_B, X the bits of a code of x, adds to sums the products of four rows of weights and the codes x, in
 * groups of 4 of each: of the rows 0 and 1, then of the rows 2 and 3. groups > 0. dot_4_wide_X_B has sums of
 * 64 bits.
 */
#define DOT_4(name, sum_t, add, x_bits, bits)                                                        \
    OUTLINE void name##_##x_bits##_##bits(sum_t sums[4], const void *x, const int8_t *weight,         \
                                          int32_t groups)                                            \
    {                                                                                                \
        int32_t i, k;                                                                                \
        for (; groups > 0; groups--) {                                                               \
            for (i = 0; i < 8; i++) {                                                                \
                k = i % 2;                                                                           \
                sums[i / 2] = add(weight_pair(weight + i / 4 * bits, bits, i / 2 % 2, k),            \
                                  code_pair(x, x_bits, bits, k), sums[i / 2]);                       \
            }                                                                                        \
            x = (const int8_t *)x + x_bits / 2;                                                      \
            weight += 2 * bits;                                                                      \
        }                                                                                            \
    }
DOT_4(dot_4, int32_t, dot_pair, 8, 4)
DOT_4(dot_4, int32_t, dot_pair, 8, 8)
DOT_4(dot_4, int32_t, dot_pair, 8, 16)
DOT_4(dot_4, int32_t, dot_pair, 16, 4)
DOT_4(dot_4, int32_t, dot_pair, 16, 8)
DOT_4(dot_4, int32_t, dot_pair, 16, 16)
DOT_4(dot_4_wide, int64_t, dot_pair_wide, 8, 8)
DOT_4(dot_4_wide, int64_t, dot_pair_wide, 8, 16)
DOT_4(dot_4_wide, int64_t, dot_pair_wide, 16, 8)
DOT_4(dot_4_wide, int64_t, dot_pair_wide, 16, 16)
#endif

/* -8 times the sum of x, whose codes have so many bits. */
OUTLINE int32_t start_1(const void *x, int32_t groups, int32_t bits)
{
    int32_t start = 0;
    for (; groups > 0; groups--) {
        uint32_t eights = pair_of(-8, -8), first, second;
        if (bits == 8) {
            uint32_t codes = load_codes((const int8_t *)x);
            first = even_codes(codes);
            second = odd_codes(codes);
        } else {
            first = load_pair((const int16_t *)x);
            second = load_pair((const int16_t *)x + 2);
        }
        start = dot_pair(second, eights, dot_pair(first, eights, start));
        x = (const int8_t *)x + bits / 2;
    }
    return start;
}

/* Sums of products with 4 bits hardly ever need 64: these are not called. */
INLINE void dot_1x3_wide_4(int64_t sums[3], const int16_t *x, const int8_t *weight, int32_t groups)
{
    dot_1x3_wide_8(sums, x, weight, groups);
}

INLINE void dot_4_wide_8_4(int64_t sums[4], const void *x, const int8_t *weight, int32_t groups)
{
    dot_4_wide_8_8(sums, x, weight, groups);
}

INLINE void dot_4_wide_16_4(int64_t sums[4], const void *x, const int8_t *weight, int32_t groups)
{
    dot_4_wide_16_8(sums, x, weight, groups);
}

#endif
