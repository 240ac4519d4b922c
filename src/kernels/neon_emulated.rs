//! The intrinsics of AArch64 that [`super::neon`] uses, in plain Rust, for tests on other machines.
//!
//! Names and signatures are those of `std::arch::aarch64`. Each is described by the instruction that it
//! stands for. Lane 0 is the one in the lowest bits and at the lowest address.
#![allow(non_camel_case_types)]

/// A register and what its lanes are.
macro_rules! registers {
    ($($name:ident: [$type:ty; $lanes:literal]),*) => {$(
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name([$type; $lanes]);
    )*};
}

registers! {
    int8x8_t: [i8; 8], int8x16_t: [i8; 16], int16x4_t: [i16; 4], int16x8_t: [i16; 8],
    int32x2_t: [i32; 2], int32x4_t: [i32; 4], int64x2_t: [i64; 2],
    float32x4_t: [f32; 4], float64x2_t: [f64; 2]
}

/// Four registers.
#[derive(Clone, Copy)]
pub struct int8x16x4_t(pub int8x16_t, pub int8x16_t, pub int8x16_t, pub int8x16_t);

/// `LD1`: lanes from memory, at any address.
macro_rules! loads {
    ($($name:ident: $type:ty => $register:ident),*) => {$(
        pub unsafe fn $name(ptr: *const $type) -> $register {
            // SAFETY: the pointer is valid for the register, as the instruction demands.
            unsafe { ptr.cast::<$register>().read_unaligned() }
        }
    )*};
}

loads! {
    vld1q_s8: i8 => int8x16_t, vld1q_s32: i32 => int32x4_t,
    vld1q_f32: f32 => float32x4_t, vld1q_f64: f64 => float64x2_t
}

/// `ST1`: lanes to memory, at any address.
macro_rules! stores {
    ($($name:ident: $type:ty => $register:ident),*) => {$(
        pub unsafe fn $name(ptr: *mut $type, a: $register) {
            // SAFETY: the pointer is valid for the register, as the instruction demands.
            unsafe { ptr.cast::<$register>().write_unaligned(a) }
        }
    )*};
}

stores! { vst1_s8: i8 => int8x8_t, vst1q_s8: i8 => int8x16_t, vst1q_s32: i32 => int32x4_t }

/// `ST4`: the first lanes of all four registers, then the second ones, and so on.
pub unsafe fn vst4q_s8(a: *mut i8, b: int8x16x4_t) {
    for lane in 0..16 {
        for (i, x) in [b.0, b.1, b.2, b.3].into_iter().enumerate() {
            // SAFETY: the pointer is valid for the register, as the instruction demands.
            unsafe { *a.add(4 * lane + i) = x.0[lane] };
        }
    }
}

/// `DUP`: a number in all lanes.
macro_rules! duplicates {
    ($($name:ident: $type:ty => $register:ident),*) => {$(
        pub fn $name(value: $type) -> $register {
            $register([value; _])
        }
    )*};
}

duplicates! {
    vdupq_n_s8: i8 => int8x16_t, vdupq_n_s16: i16 => int16x8_t, vdupq_n_s32: i32 => int32x4_t,
    vdupq_n_f32: f32 => float32x4_t, vdupq_n_f64: f64 => float64x2_t
}

/// `SDOT`: to each lane the sum of 4 products of signed bytes, from the bytes of the same lane; it wraps.
pub fn sdot(acc: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
    int32x4_t(std::array::from_fn(|lane| {
        let (x, w) = (x.0[lane].to_le_bytes(), w.0[lane].to_le_bytes());
        let products = x.into_iter().zip(w).map(|(x, w)| x as i8 as i32 * w as i8 as i32);
        acc.0[lane].wrapping_add(products.sum())
    }))
}

/// `SCVTF`: rounded to nearest, half to even.
pub fn vcvtq_f32_s32(a: int32x4_t) -> float32x4_t {
    float32x4_t(a.0.map(|a| a as f32))
}

/// `SCVTF`: rounded to nearest, half to even.
pub fn vcvtq_f64_s64(a: int64x2_t) -> float64x2_t {
    float64x2_t(a.0.map(|a| a as f64))
}

/// `FMLA`: `a + b · c`, rounded once.
pub fn vfmaq_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    float32x4_t(std::array::from_fn(|lane| b.0[lane].mul_add(c.0[lane], a.0[lane])))
}

/// `FMLA`: `a + b · c`, rounded once.
pub fn vfmaq_f64(a: float64x2_t, b: float64x2_t, c: float64x2_t) -> float64x2_t {
    float64x2_t(std::array::from_fn(|lane| b.0[lane].mul_add(c.0[lane], a.0[lane])))
}

/// `ADD`: `a + b`, which wraps.
pub fn vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    int32x4_t(std::array::from_fn(|lane| a.0[lane].wrapping_add(b.0[lane])))
}

/// `ADDP`: sums of neighbours, which wrap: those of `a`, then those of `b`.
pub fn vpaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    let sum = |v: int32x4_t, i: usize| v.0[i].wrapping_add(v.0[i + 1]);
    int32x4_t([sum(a, 0), sum(a, 2), sum(b, 0), sum(b, 2)])
}

/// `SMULL`: products of twice the bits.
pub fn vmull_s16(a: int16x4_t, b: int16x4_t) -> int32x4_t {
    int32x4_t(std::array::from_fn(|lane| a.0[lane] as i32 * b.0[lane] as i32))
}

/// `SMULL2`: the same of the upper halves.
pub fn vmull_high_s16(a: int16x8_t, b: int16x8_t) -> int32x4_t {
    int32x4_t(std::array::from_fn(|lane| a.0[4 + lane] as i32 * b.0[4 + lane] as i32))
}

/// `SUB`: `a − b`, which wraps.
pub fn vsubq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    int32x4_t(std::array::from_fn(|lane| a.0[lane].wrapping_sub(b.0[lane])))
}

/// `SQADD`: `a + b`, which saturates.
pub fn vqaddq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t {
    int16x8_t(std::array::from_fn(|lane| a.0[lane].saturating_add(b.0[lane])))
}

/// `SMAX`: the greater one.
pub fn vmaxq_s8(a: int8x16_t, b: int8x16_t) -> int8x16_t {
    int8x16_t(std::array::from_fn(|lane| a.0[lane].max(b.0[lane])))
}

/// `SMIN`: the smaller one.
pub fn vminq_s8(a: int8x16_t, b: int8x16_t) -> int8x16_t {
    int8x16_t(std::array::from_fn(|lane| a.0[lane].min(b.0[lane])))
}

/// No instruction: the lower half.
pub fn vget_low_s32(a: int32x4_t) -> int32x2_t {
    int32x2_t([a.0[0], a.0[1]])
}

/// No instruction: the lower half.
pub fn vget_low_s16(a: int16x8_t) -> int16x4_t {
    int16x4_t(std::array::from_fn(|lane| a.0[lane]))
}

/// No instruction: the lower half.
pub fn vget_low_s8(a: int8x16_t) -> int8x8_t {
    int8x8_t(std::array::from_fn(|lane| a.0[lane]))
}

/// `DUP` of one lane of 64 bits: the upper half.
pub fn vget_high_s8(a: int8x16_t) -> int8x8_t {
    int8x8_t(std::array::from_fn(|lane| a.0[8 + lane]))
}

/// `SMOV`: one lane.
pub fn vgetq_lane_s32<const IMM5: i32>(v: int32x4_t) -> i32 {
    v.0[IMM5 as usize]
}

/// `FMOV`: these bits.
pub fn vcreate_s16(a: u64) -> int16x4_t {
    int16x4_t(std::array::from_fn(|lane| (a >> (16 * lane)) as i16))
}

/// `SSHLL` by 0: extended by the sign.
pub fn vmovl_s16(a: int16x4_t) -> int32x4_t {
    int32x4_t(a.0.map(i32::from))
}

/// `SSHLL` by 0: extended by the sign.
pub fn vmovl_s32(a: int32x2_t) -> int64x2_t {
    int64x2_t(a.0.map(i64::from))
}

/// `SSHLL2` by 0: the upper half, extended by the sign.
pub fn vmovl_high_s32(a: int32x4_t) -> int64x2_t {
    int64x2_t([a.0[2].into(), a.0[3].into()])
}

/// `SQXTN`: to half the bits, which saturates.
pub fn vqmovn_s32(a: int32x4_t) -> int16x4_t {
    int16x4_t(a.0.map(|a| a.clamp(i16::MIN.into(), i16::MAX.into()) as i16))
}

/// `SQXTN2`: `a`, and above it `b` to half the bits, which saturates.
pub fn vqmovn_high_s32(a: int16x4_t, b: int32x4_t) -> int16x8_t {
    let b = vqmovn_s32(b);
    int16x8_t(std::array::from_fn(|lane| if lane < 4 { a.0[lane] } else { b.0[lane - 4] }))
}

/// `SQXTN`: to half the bits, which saturates.
pub fn vqmovn_s16(a: int16x8_t) -> int8x8_t {
    int8x8_t(a.0.map(|a| a.clamp(i8::MIN.into(), i8::MAX.into()) as i8))
}

/// `SQXTN2`: `a`, and above it `b` to half the bits, which saturates.
pub fn vqmovn_high_s16(a: int8x8_t, b: int16x8_t) -> int8x16_t {
    let b = vqmovn_s16(b);
    int8x16_t(std::array::from_fn(|lane| if lane < 8 { a.0[lane] } else { b.0[lane - 8] }))
}

/// `UZP1`: the even lanes of `a`, then those of `b`.
pub fn vuzp1q_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    int32x4_t([a.0[0], a.0[2], b.0[0], b.0[2]])
}

/// No instruction: the same bits.
pub fn vreinterpretq_f32_s32(a: int32x4_t) -> float32x4_t {
    float32x4_t(a.0.map(|a| f32::from_bits(a as u32)))
}

/// No instruction: the same bits.
pub fn vreinterpretq_s32_f32(a: float32x4_t) -> int32x4_t {
    int32x4_t(a.0.map(|a| a.to_bits() as i32))
}

/// No instruction: the same bits.
pub fn vreinterpretq_s32_f64(a: float64x2_t) -> int32x4_t {
    let [a, b] = a.0.map(f64::to_bits);
    int32x4_t([a as i32, (a >> 32) as i32, b as i32, (b >> 32) as i32])
}

/// No instruction: the same bits.
pub fn vreinterpretq_s16_s32(a: int32x4_t) -> int16x8_t {
    int16x8_t(std::array::from_fn(|lane| (a.0[lane / 2] >> (lane % 2 * 16)) as i16))
}

/// No instruction: the same bits.
pub fn vreinterpretq_s32_s8(a: int8x16_t) -> int32x4_t {
    let byte = |at: usize| a.0[at] as u8;
    int32x4_t(std::array::from_fn(|lane| {
        i32::from_le_bytes(std::array::from_fn(|i| byte(4 * lane + i)))
    }))
}
