/*
 * y[o] = requantize(bias[o] + sum_k w[o][k] * x[k]), o < out_ch, k < depth: the product that conv and
 * linear share, and the forms of its rescaling.
 *
 * The includer has included arith.h. Two implementations give the same codes: a portable one for all
 * types, and one of DSP instructions (dsp.h) for all but weights of 4 bits with accumulators of 64.
 *
 * Weights lie in blocks of B rows (2 for conv, 4 for linear), which a product reads in one pass; each
 * holds 4 codes of its first row, 4 of its second, and so on:
 *
 *     weight[o][k] is at (o / B * depth4 / 4 + k / 4) * 4 * B + o % B * 4 + k % 4
 *
 * Those of 4 bits, of which a weight_t holds two, plus 8, the first in its low half, have another order
 * within such a group, so that DSP code finds its pairs: o % B / 2 * 8 + k % 4 / 2 * 4 + o % 2 * 2 + k % 2.
 *
 * where depth4 is depth rounded up to a multiple of 4, as out_ch is to one of B. What this adds is 0.
 * The weights of DSP code are at a multiple of 4 bytes.
 */
#include "dsp.h"

#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERTS
#ifdef ASSERT_BOUND
#define ASSERTS 1
#else
#define ASSERTS 0
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif
#endif

/* Whether the DSP implementation serves these types: a constant. */
#define MATMUL_DSP (NAIVE_PTQ_DSP && !(WEIGHT_BITS == 4 && ACC_BITS == 64))

/* Whether sums begin with start_3 or start_1. */
#define MATMUL_STARTS (MATMUL_DSP && WEIGHT_BITS == 4)

/* Whether the sums of conv may stay in registers, where they cannot be checked. */
#define MATMUL_PAIRS (MATMUL_DSP && ACC_BITS == 32 && !ASSERTS)

/*
 * Forms of requantize(acc) = clamp(rne(acc * significand * 2^-s) + zy). All give the same codes where
 * they may be used: the generator proves what is said here, for each channel with its own `bound` of
 * |acc|. s' and n may differ between channels, the form may not.
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

struct T(requant) {
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

struct T(product) {
    /* As above; depthwise and transposed convolutions have an order of their own. */
    const weight_t *weight;
    /* [out_ch], with the zero point of x moved into it, q_b[o] - zx * sum_k weight[o][k], but see
       conv_transpose. */
    const acc_t *bias;
    /* Number of weights of one output channel. */
    int32_t depth;
    int32_t out_ch;
    struct T(requant) requant;
    /* The proven bound of every accumulator and partial sum: it fits acc_t and what `rescale` allows. */
    int64_t bound;
};

/* What REQUANT_HIGH and REQUANT_SHIFT take for one channel, held in registers. */
struct T(scale) {
    int32_t factor;
    int32_t offset;
    int32_t shift;
};

INLINE struct T(scale) T(scale_by)(const struct T(requant) *r, int32_t form, int32_t shift)
{
    struct T(scale) scale = {0, 0, 0};
    if (form == REQUANT_HIGH) {
        scale.shift = shift - 32;
        scale.offset = r->y_zero_point * (1 << scale.shift) + (1 << (scale.shift - 1));
    } else if (form == REQUANT_SHIFT) {
        scale.shift = shift;
        scale.offset = (1 << (shift - 1)) - 1;
    }
    return scale;
}

/* That of all channels, but for the factor, if they have one shift. */
INLINE struct T(scale) T(scale_common)(const struct T(requant) *r, int32_t form)
{
    struct T(scale) none = {0, 0, 0};
    return r->shifts ? none : T(scale_by)(r, form, r->shift);
}

INLINE struct T(scale) T(scale_of)(const struct T(requant) *r, int32_t form, struct T(scale) scale, int32_t channel)
{
    if (form != REQUANT_GENERAL && r->shifts) {
        scale = T(scale_by)(r, form, r->shifts[channel]);
    }
    if (form == REQUANT_HIGH) {
        scale.factor = r->factor[channel];
    }
    return scale;
}

/*
 * rescale() for 26 <= shift <= 55 in 32 bits: the high word of acc * significand * 2^7 is rounded half up,
 * and put right if that was a tie. It is below 2^30, as is the half.
 */
INLINE int32_t T(rescale_high)(int32_t acc, struct multiplier m)
{
    int64_t product = (int64_t)acc * (m.significand * 128);
    int32_t high = (int32_t)(product >> 32), shift = m.shift + 7 - 32, half = 1 << (shift - 1);
    int32_t q = (high + half) >> shift;
    int tie = (uint32_t)product == 0 && (high & (2 * half - 1)) == half;
    return tie ? q - (q & 1) : q;
}

OUTLINE y_t T(code_general)(const struct T(requant) *r, int32_t channel, acc_t acc)
{
    struct multiplier m = r->multiplier[channel];
    if (sizeof acc == sizeof(int32_t) && m.shift >= 26 && m.shift <= 55) {
        int32_t q = T(rescale_high)((int32_t)acc, m) + r->y_zero_point;
        q = q < r->clamp[0] ? r->clamp[0] : q;
        q = q > r->clamp[1] ? r->clamp[1] : q;
        return (y_t)q;
    }
    return (y_t)clamp(RESCALE(acc, m) + r->y_zero_point, r->clamp[0], r->clamp[1]);
}

/* The output code of an accumulator. `wide`: the range is that of all codes. */
INLINE y_t T(code_of)(const struct T(requant) *r, int32_t form, int wide, struct T(scale) scale, int32_t channel,
                      acc_t acc)
{
    int32_t q = (int32_t)acc;
    if (form == REQUANT_GENERAL || sizeof acc != sizeof q) {
        return T(code_general)(r, channel, acc);
    }
    if (form == REQUANT_HIGH) {
        q = high_product(q, scale.factor, scale.offset) >> scale.shift;
    } else {
        q = ((q + scale.offset + ((q >> scale.shift) & 1)) >> scale.shift) + r->y_zero_point;
    }
    if (wide) {
        return (y_t)saturate(q, Y_BITS);
    }
    q = q < r->clamp[0] ? r->clamp[0] : q;
    q = q > r->clamp[1] ? r->clamp[1] : q;
    return (y_t)q;
}

INLINE int T(requant_wide)(const struct T(requant) *r)
{
    return r->clamp[0] == Y_MIN && r->clamp[1] == Y_MAX;
}

/*
 * Columns: the inputs x[k] of three output positions, widened to 16 bits, in groups of 4 of each.
 *
 *     portable   int16_t   x[k] of position i at k / 4 * 12 + i * 4 + k % 4
 *     DSP        pairs     (x[k], x[k + 2]) of position i at k / 4 * 6 + i, for k % 4 = 0, and
 *                          (x[k + 1], x[k + 3]) three words on: the pairs that SXTB16 makes of weights;
 *                          beside weights of 16 bits (x[k], x[k + 1]) and (x[k + 2], x[k + 3])
 *
 * Both take 24 bytes a group.
 */
#define COLUMNS 3

/* Where the column of position i begins; its next group is 24 bytes on. */
INLINE int16_t *T(column_at)(int16_t *columns, int32_t i)
{
    return columns + i * (MATMUL_DSP ? 2 : 4);
}

/* Writes one group of codes. */
INLINE void T(column_group)(int16_t *column, const x_t *codes)
{
    if (MATMUL_DSP && X_BITS == 8 && WEIGHT_BITS <= 8) {
        uint32_t four = load_codes((const int8_t *)(const void *)codes);
        store_pair(column, even_codes(four));
        store_pair(column + 2 * COLUMNS, odd_codes(four));
    } else if (MATMUL_DSP && X_BITS == 8) {
        uint32_t four = load_codes((const int8_t *)(const void *)codes);
        store_pair(column, low_halves(even_codes(four), odd_codes(four)));
        store_pair(column + 2 * COLUMNS, high_halves(even_codes(four), odd_codes(four)));
    } else if (MATMUL_DSP) {
        const int16_t *from = (const int16_t *)(const void *)codes;
        uint32_t first = load_pair(from), second = load_pair(from + 2);
        store_pair(column, WEIGHT_BITS == 16 ? first : low_halves(first, second));
        store_pair(column + 2 * COLUMNS, WEIGHT_BITS == 16 ? second : high_halves(first, second));
    } else {
        column[0] = codes[0];
        column[1] = codes[1];
        column[2] = codes[2];
        column[3] = codes[3];
    }
}

/* Writes up to 4 groups of codes, best a constant number, and returns the place of the next. */
INLINE int16_t *T(column_short)(int16_t *column, const x_t *codes, int32_t groups)
{
    const int32_t next = 4 * COLUMNS;
    if (groups > 0) {
        T(column_group)(column, codes);
    }
    if (groups > 1) {
        T(column_group)(column + next, codes + 4);
    }
    if (groups > 2) {
        T(column_group)(column + 2 * next, codes + 8);
    }
    if (groups > 3) {
        T(column_group)(column + 3 * next, codes + 12);
    }
    return column + groups * next;
}

/* Writes any number of groups. */
OUTLINE int16_t *T(column_put)(int16_t *column, const x_t *codes, int32_t groups)
{
    for (; groups >= 4; groups -= 4) {
        column = T(column_short)(column, codes, 4);
        codes += 16;
    }
    if (groups & 2) {
        column = T(column_short)(column, codes, 2);
        codes += 8;
    }
    if (groups & 1) {
        column = T(column_short)(column, codes, 1);
    }
    return column;
}

/* Writes `groups` groups of one code. */
OUTLINE int16_t *T(column_fill)(int16_t *column, int32_t code, int32_t groups)
{
    for (; groups > 0; groups--) {
        store_pair(column, pair_of(code, code));
        store_pair(column + (MATMUL_DSP ? 2 * COLUMNS : 2), pair_of(code, code));
        column += 4 * COLUMNS;
    }
    return column;
}

/* Weight number i, one after the other. */
INLINE int32_t T(weight_of)(const weight_t *weight, int32_t i)
{
    return WEIGHT_BITS == 4 ? half_of((int8_t)weight[i / 2], i % 2) : weight[i];
}

/* Weight k of row o of a group of 4 of each row. */
INLINE int32_t T(weight_in)(const weight_t *group, int32_t o, int32_t k)
{
    if (WEIGHT_BITS == 4) {
        return half_of((int8_t)group[o / 2 * 4 + k / 2 * 2 + o % 2], k % 2);
    }
    return group[4 * o + k];
}

/* The sums of two channels, a and b, at three positions, in registers. */
struct T(sums_2x3) {
    acc_t a0, a1, a2;
    acc_t b0, b1, b2;
};

/* Adds the products of k of a group, at x; the column of the next position is 4 further on. */
INLINE struct T(sums_2x3) T(sums_add)(struct T(sums_2x3) s, const int16_t *x, const weight_t *group, int32_t k)
{
    int32_t a = T(weight_in)(group, 0, k), b = T(weight_in)(group, 1, k);
    x += k;
    s.a0 += a * x[0];
    s.a1 += a * x[4];
    s.a2 += a * x[8];
    s.b0 += b * x[0];
    s.b1 += b * x[4];
    s.b2 += b * x[8];
    return s;
}

/* The sums of channels a and b. */
INLINE void T(product_sums)(const struct T(product) *p, const int32_t start[COLUMNS], acc_t sums[2 * COLUMNS],
                         const int16_t *RESTRICT x, const weight_t *RESTRICT weight, int32_t a, int32_t b)
{
    int32_t groups = (p->depth + 3) / 4, i;
    struct T(sums_2x3) s;
    s.a0 = s.a1 = s.a2 = p->bias[a];
    s.b0 = s.b1 = s.b2 = p->bias[b];
    LOOP
    for (; !MATMUL_DSP && groups > 0; groups--) {
        s = T(sums_add)(s, x, weight, 0);
        s = T(sums_add)(s, x, weight, 1);
        s = T(sums_add)(s, x, weight, 2);
        s = T(sums_add)(s, x, weight, 3);
        x += 4 * COLUMNS;
        weight += WEIGHTS(8);
    }
    sums[0] = s.a0;
    sums[1] = s.a1;
    sums[2] = s.a2;
    sums[3] = s.b0;
    sums[4] = s.b1;
    sums[5] = s.b2;
    for (i = 0; MATMUL_STARTS && i < 2 * COLUMNS; i++) {
        sums[i] = add_modulo((int32_t)sums[i], start[i % COLUMNS]);
    }
    if (MATMUL_DSP && ACC_BITS == 64) {
        int64_t *all = (int64_t *)(void *)sums;
        DOT(dot_1x3_wide)(all, x, (const int8_t *)(const void *)weight, groups);
        DOT(dot_1x3_wide)(all + COLUMNS, x, (const int8_t *)(const void *)(weight + 4), groups);
    } else if (MATMUL_DSP) {
        DOT(dot_2x3)((int32_t *)(void *)sums, x, (const int8_t *)(const void *)weight, groups);
    }
}

/* Writes one channel of three positions. Codes may alias anything, so they are stored last. */
INLINE void T(store_3)(const struct T(product) *p, int32_t form, int wide, struct T(scale) common, int32_t channel,
                    const acc_t sums[COLUMNS], y_t *const y[COLUMNS])
{
    struct T(scale) scale = T(scale_of)(&p->requant, form, common, channel);
    y_t q0 = T(code_of)(&p->requant, form, wide, scale, channel, sums[0]);
    y_t q1 = T(code_of)(&p->requant, form, wide, scale, channel, sums[1]);
    y_t q2 = T(code_of)(&p->requant, form, wide, scale, channel, sums[2]);
    y_t *y0 = y[0], *y1 = y[1], *y2 = y[2];
    y0[channel] = q0;
    y1[channel] = q1;
    y2[channel] = q2;
}

/* Writes two channels. They are one where the number of channels is odd; then `a` is the right one. */
INLINE void T(store_2x3)(const struct T(product) *p, int32_t form, int wide, struct T(scale) common, int32_t a,
                      int32_t b, const acc_t sums[2 * COLUMNS], y_t *const y[COLUMNS])
{
    T(store_3)(p, form, wide, common, b, sums + COLUMNS, y);
    T(store_3)(p, form, wide, common, a, sums, y);
}

/* As product_3 for the most frequent rescaling. Returns the channel that is left if their number is odd. */
INLINE int32_t T(product_pairs)(const struct T(product) *p, const int32_t start[COLUMNS], int32_t first,
                             int32_t end, const weight_t *weight, const int16_t *columns, y_t *const *y)
{
    struct codes_2x3 codes;
    struct T(scale) scale = T(scale_common)(&p->requant, REQUANT_HIGH);
    int32_t i;
    if (end - first < 2) {
        return first;
    }
    codes.groups = (p->depth + 3) / 4;
    codes.columns = columns;
    codes.weight = (const int8_t *)(const void *)weight;
    codes.bias = (const int32_t *)(const void *)(p->bias + first);
    codes.factor = p->requant.factor + first;
    codes.offset = scale.offset;
    codes.shift = scale.shift;
    codes.pairs = (end - first) / 2;
    for (i = 0; i < COLUMNS; i++) {
        codes.y[i] = y[i] + first;
        if (MATMUL_STARTS) {
            codes.start[i] = start[i];
        }
    }
    DOT_OF(codes_2x3, Y_BITS)(&codes);
    return first + (end - first) / 2 * 2;
}

/* The channels `first` to `end` of three positions, whose weights begin at `weight`. */
OUTLINE void T(product_3)(const struct T(product) *p, int32_t first, int32_t end, const weight_t *weight,
                       const int16_t *columns, y_t *const y[COLUMNS])
{
    int32_t groups = (p->depth + 3) / 4, form = p->requant.form, a, i, start[COLUMNS] = {0, 0, 0};
    int wide = T(requant_wide)(&p->requant);
    struct T(scale) common = T(scale_common)(&p->requant, form);
    if (MATMUL_STARTS) {
        start_3(start, columns, groups);
    }
    if (MATMUL_PAIRS && form == REQUANT_HIGH && wide && !p->requant.shifts) {
        int32_t rest = T(product_pairs)(p, start, first, end, weight, columns, y);
        weight += WEIGHTS((rest - first) * groups * 4);
        first = rest;
    }
    for (a = first; a < end; a += 2) {
        int32_t b = a + 1 < end ? a + 1 : a;
        acc_t sums[2 * COLUMNS];
        T(product_sums)(p, start, sums, columns, weight, a, b);
        weight += WEIGHTS(groups * 8);
        for (i = 0; i < 2 * COLUMNS; i++) {
            ASSERT_BOUND(sums[i], p->bound);
        }
        if (form == REQUANT_HIGH && wide) {
            T(store_2x3)(p, REQUANT_HIGH, 1, common, a, b, sums, y);
        } else if (form == REQUANT_HIGH) {
            T(store_2x3)(p, REQUANT_HIGH, 0, common, a, b, sums, y);
        } else if (form == REQUANT_SHIFT) {
            T(store_2x3)(p, REQUANT_SHIFT, 0, common, a, b, sums, y);
        } else {
            T(store_2x3)(p, REQUANT_GENERAL, 0, common, a, b, sums, y);
        }
    }
}
