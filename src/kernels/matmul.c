/*
 * y[o] = requantize(bias[o] + sum_k w[o][k] * x[k]), o < out_ch, k < depth: the product that conv and
 * linear share, and the forms of its rescaling.
 *
 * The includer has included arith.h. Two implementations give the same codes: a portable one for all
 * types, and one of DSP instructions (dsp.h) for codes and weights of 8 bits and accumulators of 32.
 *
 * Weights lie in blocks of B rows (2 for conv, 4 for linear), which a product reads in one pass; each
 * holds 4 codes of its first row, 4 of its second, and so on:
 *
 *     weight[o][k] is at (o / B * depth4 / 4 + k / 4) * 4 * B + o % B * 4 + k % 4
 *
 * where depth4 is depth rounded up to a multiple of 4, as out_ch is to one of B. What this adds is 0.
 * The weights of DSP code are at a multiple of 4 bytes.
 */
#ifndef KERNELS_MATMUL_C
#define KERNELS_MATMUL_C

#include "dsp.h"

#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

/* Whether the DSP implementation serves these types: a constant. */
#define MATMUL_DSP \
    (NET_DSP && CODE_BITS == 8 && sizeof(weight_t) == 1 && sizeof(acc_t) == sizeof(int32_t))

/*
 * Forms of requantize(acc) = clamp(rne(acc * significand * 2^-s) + zy). All give the same codes where
 * they may be used. `bound` limits |acc|; s' and n may differ between channels, the form may not.
 *
 * REQUANT_GENERAL: any multiplier that `rescale` takes.
 *
 * REQUANT_HIGH: one multiplication, of which the high word is kept. For each channel there is a k >= 0
 * with factor = significand * 2^k < 2^31 and shift s' = s + k in 33..52 (33..44 with 16-bit codes). No
 * acc may be a tie, which the half added here rounds up: tz(significand) + floor(log2(bound)) < s - 1,
 * where tz counts trailing zeros, because a tie has tz(acc) + tz(significand) = s - 1. acc_t is int32_t.
 *
 * REQUANT_SHIFT: significand = 2^23, and shift n = s - 23 in 1..30. bound + 2^(n-1) < 2^31. Ties may
 * be. acc_t is int32_t.
 */
#define REQUANT_GENERAL 0
#define REQUANT_HIGH 1
#define REQUANT_SHIFT 2

struct requant {
    /* One of the above. */
    int32_t form;
    /* REQUANT_GENERAL, else null: for each channel. */
    const struct multiplier *multiplier;
    /* REQUANT_HIGH, else null: for each channel. */
    const int32_t *factor;
    /* Where channels differ in s' or n, else null: for each channel. */
    const uint8_t *shifts;
    /* Where they do not: s' or n of all channels. */
    int32_t shift;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
};

struct product {
    /* As above; depthwise and transposed convolutions have an order of their own. */
    const weight_t *weight;
    /* [out_ch], with the zero point of x moved into it: q_b[o] - zx * sum_k weight[o][k]. */
    const acc_t *bias;
    /* Number of weights of one output channel. */
    int32_t depth;
    int32_t out_ch;
    struct requant requant;
    /* The proven bound of every accumulator and partial sum: it fits acc_t and what `rescale` allows. */
    int64_t bound;
};

/* What rescaling an accumulator of one channel takes, held in registers for several of them. */
struct scale {
    int32_t factor;
    int32_t offset;
    int32_t shift;
    struct multiplier multiplier;
};

INLINE struct scale scale_of(const struct requant *r, int32_t form, int32_t channel)
{
    struct scale scale = {0, 0, 0, {0, 0}};
    if (form == REQUANT_GENERAL) {
        scale.multiplier = r->multiplier[channel];
        return scale;
    }
    scale.shift = r->shifts ? r->shifts[channel] : r->shift;
    if (form == REQUANT_HIGH) {
        scale.shift -= 32;
        scale.factor = r->factor[channel];
        scale.offset = r->y_zero_point * (1 << scale.shift) + (1 << (scale.shift - 1));
    } else {
        scale.offset = (1 << (scale.shift - 1)) - 1;
    }
    return scale;
}

/* The output code of an accumulator. `wide`: the range is that of all codes. */
INLINE code_t code_of(const struct requant *r, int32_t form, int wide, struct scale scale, acc_t acc)
{
    int32_t lo = wide ? CODE_MIN : r->clamp[0], hi = wide ? CODE_MAX : r->clamp[1], q;
    if (form == REQUANT_GENERAL || sizeof(acc_t) != sizeof q) {
        return requantize(acc, scale.multiplier, r->y_zero_point, lo, hi);
    }
    q = (int32_t)acc;
    if (form == REQUANT_HIGH) {
        q = high_product(q, scale.factor, scale.offset) >> scale.shift;
    } else {
        q = ((q + scale.offset + ((q >> scale.shift) & 1)) >> scale.shift) + r->y_zero_point;
    }
    return (code_t)(q < lo ? lo : q > hi ? hi : q);
}

INLINE int requant_wide(const struct requant *r)
{
    return r->clamp[0] == CODE_MIN && r->clamp[1] == CODE_MAX;
}

/*
 * Columns: the inputs x[k] of three output positions, widened to 16 bits, in groups of 4 of each.
 *
 *     portable   int16_t   x[k] of position i at k / 4 * 12 + i * 4 + k % 4
 *     DSP        pairs     (x[k], x[k + 2]) of position i at k / 4 * 6 + i, for k % 4 = 0, and
 *                          (x[k + 1], x[k + 3]) three words on: the pairs that SXTB16 makes
 *
 * Both take 24 bytes a group. A position of a column is a pointer to its first number.
 */
#define COLUMNS 3

/* The column of position i. */
INLINE int16_t *column_at(int16_t *columns, int32_t i)
{
    return columns + i * (MATMUL_DSP ? 2 : 4);
}

/* Writes `groups` groups of codes and returns the place of the next. */
OUTLINE int16_t *column_put(int16_t *column, const code_t *codes, int32_t groups)
{
    const code_t *end = codes + groups * 4;
    while (codes != end) {
        if (MATMUL_DSP) {
            uint32_t four = load_codes((const int8_t *)(const void *)codes);
            uint32_t even = even_codes(four), odd = odd_codes(four);
            memcpy(column, &even, sizeof even);
            memcpy(column + 6, &odd, sizeof odd);
        } else {
            column[0] = codes[0];
            column[1] = codes[1];
            column[2] = codes[2];
            column[3] = codes[3];
        }
        codes += 4;
        column += 12;
    }
    return column;
}

/* Writes `groups` groups of one code. */
OUTLINE int16_t *column_fill(int16_t *column, int32_t code, int32_t groups)
{
    while (groups > 0) {
        int32_t odd = MATMUL_DSP ? 6 : 2;
        column[0] = column[1] = column[odd] = column[odd + 1] = (int16_t)code;
        groups -= 1;
        column += 12;
    }
    return column;
}

/* Adds to sums, [2][3], the products of two rows of weights and three columns. */
INLINE void product_sums(acc_t sums[2 * COLUMNS], const int16_t *x, const weight_t *weight, int32_t groups)
{
    int32_t i, j;
    if (MATMUL_DSP) {
        dot_2x3((int32_t *)(void *)sums, x, (const int8_t *)(const void *)weight, groups);
        return;
    }
    for (; groups > 0; groups--) {
        for (j = 0; j < 4; j++) {
            int32_t a = weight[j], b = weight[j + 4];
            for (i = 0; i < COLUMNS; i++) {
                sums[i] += a * x[i * 4 + j];
                sums[i + COLUMNS] += b * x[i * 4 + j];
            }
        }
        x += 4 * COLUMNS;
        weight += 8;
    }
}

/* Writes one channel of three positions. Codes may alias anything, so they are stored last. */
INLINE void store_3(const struct product *p, int32_t form, int wide, int32_t channel,
                    const acc_t sums[COLUMNS], code_t *const y[COLUMNS])
{
    struct scale scale = scale_of(&p->requant, form, channel);
    code_t q0 = code_of(&p->requant, form, wide, scale, sums[0]);
    code_t q1 = code_of(&p->requant, form, wide, scale, sums[1]);
    code_t q2 = code_of(&p->requant, form, wide, scale, sums[2]);
    code_t *y0 = y[0], *y1 = y[1], *y2 = y[2];
    y0[channel] = q0;
    y1[channel] = q1;
    y2[channel] = q2;
}

/* Writes two channels. They are one where the number of channels is odd; then `a` is the right one. */
INLINE void store_2x3(const struct product *p, int32_t form, int wide, int32_t a, int32_t b,
                      const acc_t sums[2 * COLUMNS], code_t *const y[COLUMNS])
{
    store_3(p, form, wide, b, sums + COLUMNS, y);
    store_3(p, form, wide, a, sums, y);
}

/* The channels `first` to `end` of three positions, whose weights begin at `weight`. */
OUTLINE void product_3(const struct product *p, int32_t first, int32_t end, const weight_t *weight,
                       const int16_t *columns, code_t *const y[COLUMNS])
{
    int32_t groups = (p->depth + 3) / 4, form = p->requant.form, a, i;
    int wide = requant_wide(&p->requant);
    for (a = first; a < end; a += 2) {
        int32_t b = a + 1 < end ? a + 1 : a;
        acc_t sums[2 * COLUMNS];
        sums[0] = sums[1] = sums[2] = p->bias[a];
        sums[3] = sums[4] = sums[5] = p->bias[b];
        product_sums(sums, columns, weight, groups);
        weight += groups * 8;
        for (i = 0; i < 2 * COLUMNS; i++) {
            ASSERT_BOUND(sums[i], p->bound);
        }
        if (form == REQUANT_HIGH && wide) {
            store_2x3(p, REQUANT_HIGH, 1, a, b, sums, y);
        } else if (form == REQUANT_HIGH) {
            store_2x3(p, REQUANT_HIGH, 0, a, b, sums, y);
        } else if (form == REQUANT_SHIFT) {
            store_2x3(p, REQUANT_SHIFT, 0, a, b, sums, y);
        } else {
            store_2x3(p, REQUANT_GENERAL, 0, a, b, sums, y);
        }
    }
}

#endif
