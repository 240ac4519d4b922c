//! NEON with the dot product: `sdot` multiplies 4 signed codes by 4 weights and adds all to 32 bits.
//!
//! It has not run on hardware, so its speed is unknown. It is tested in two ways. The tests on other
//! machines run the same code over [`super::neon_emulated`], where the intrinsics are plain Rust. And the
//! tests built for `aarch64-unknown-linux-musl` pass in `qemu-aarch64 -cpu max`.
#![cfg_attr(not(target_arch = "aarch64"), allow(unused_unsafe))] // emulated intrinsics are safe

#[cfg(target_arch = "aarch64")]
use std::arch::{aarch64::*, asm};

#[cfg(not(target_arch = "aarch64"))]
use super::neon_emulated::*;
use super::packed::{Block, Limits, Packed};
use super::simd::{Job, Simd, Vector, Words, entry_points};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct NeonDot;

/// Codes of 16 bits, whose products `smull` makes and `addp` adds in pairs.
#[derive(Clone, Copy)]
pub(super) struct NeonPairs;

/// Added to a number, they leave its integer part, rounded half to even, in the low bits.
const ROUND: f32 = 12_582_912.0;
const ROUND_DOUBLE: f64 = 6_755_399_441_055_744.0;

/// What both have in common.
macro_rules! common {
    () => {
        type V = int32x4_t;
        const LANES: usize = 4;
        const VECTORS: usize = 4;

        #[inline(always)]
        unsafe fn load(from: *const u32) -> int32x4_t {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { vld1q_s32(from.cast()) }
        }

        #[inline(always)]
        unsafe fn save(v: int32x4_t, to: *mut u32) {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { vst1q_s32(to.cast(), v) }
        }

        #[inline(always)]
        unsafe fn splat(x: *const Self::X) -> int32x4_t {
            // Not `vld1q_dup_s32`, whose pointer must be aligned.
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe { vdupq_n_s32(x.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn round(acc: int32x4_t, factor: *const f32) -> int32x4_t {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                let q = vfmaq_f32(vdupq_n_f32(ROUND), vcvtq_f32_s32(acc), vld1q_f32(factor));
                vsubq_s32(vreinterpretq_s32_f32(q), vdupq_n_s32(ROUND.to_bits() as i32))
            }
        }

        #[inline(always)]
        unsafe fn round_double(acc: int32x4_t, factor: *const f64) -> int32x4_t {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                let (f0, f1) = (vld1q_f64(factor), vld1q_f64(factor.add(2)));
                let round = vdupq_n_f64(ROUND_DOUBLE);
                let low = vcvtq_f64_s64(vmovl_s32(vget_low_s32(acc)));
                let high = vcvtq_f64_s64(vmovl_high_s32(acc));
                let low = vreinterpretq_s32_f64(vfmaq_f64(round, low, f0));
                let high = vreinterpretq_s32_f64(vfmaq_f64(round, high, f1));
                vuzp1q_s32(low, high)
            }
        }

        #[inline(always)]
        unsafe fn fused(acc: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
            // SAFETY: the machine has the instructions, as `Vector` demands.
            unsafe {
                let real = |v| vreinterpretq_f32_s32(v);
                vreinterpretq_s32_f32(vfmaq_f32(real(acc), real(x), real(w)))
            }
        }

        #[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon,dotprod"))]
        #[inline(never)]
        unsafe fn run<J: Job<Self>>(job: J) {
            // SAFETY: the machine has the instructions, and what the job demands is the caller's to promise.
            unsafe { job.run() }
        }

        #[inline(always)]
        unsafe fn store<const N: usize>(
            q: [int32x4_t; 4],
            limits: Limits,
            y: [*mut u8; 4],
            len: usize,
        ) {
            // SAFETY: the machine has the instructions, and the memory is there, as `Vector` demands.
            unsafe {
                // Saturation changes nothing: the limits are closer, also after the zero point is added.
                let zero_point = vdupq_n_s16(limits.zero_point);
                let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), zero_point);
                let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[2]), q[3]), zero_point);
                let codes = vqmovn_high_s16(vqmovn_s16(low), high);
                let codes = vminq_s8(codes, vdupq_n_s8(limits.hi as i8));
                let codes = vmaxq_s8(codes, vdupq_n_s8(limits.lo as i8));
                if len == 4 * N {
                    match N {
                        4 => vst1q_s8(y[0].cast(), codes),
                        2 => {
                            vst1_s8(y[0].cast(), vget_low_s8(codes));
                            vst1_s8(y[1].cast(), vget_high_s8(codes));
                        }
                        _ => {
                            let codes = vreinterpretq_s32_s8(codes);
                            // Not `vst1q_lane_s32`, whose pointer must be aligned.
                            y[0].cast::<i32>().write_unaligned(vgetq_lane_s32::<0>(codes));
                            y[1].cast::<i32>().write_unaligned(vgetq_lane_s32::<1>(codes));
                            y[2].cast::<i32>().write_unaligned(vgetq_lane_s32::<2>(codes));
                            y[3].cast::<i32>().write_unaligned(vgetq_lane_s32::<3>(codes));
                        }
                    }
                    return;
                }
                let mut all = [0_i8; 16];
                vst1q_s8(all.as_mut_ptr(), codes);
                for (i, y) in y.into_iter().take(4 / N).enumerate() {
                    y.copy_from_nonoverlapping(all.as_ptr().add(i * 4 * N).cast(), len);
                }
            }
        }
    };
}

impl Vector for NeonDot {
    type X = i8;

    common!();

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
        // `vdotq_s32` is not stable.
        #[cfg(target_arch = "aarch64")]
        {
            let mut sum = acc;
            // SAFETY: it works on these registers alone.
            unsafe {
                asm!(
                    "sdot {sum:v}.4s, {x:v}.16b, {w:v}.16b",
                    sum = inout(vreg) sum,
                    x = in(vreg) x,
                    w = in(vreg) w,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }
        #[cfg(not(target_arch = "aarch64"))]
        sdot(acc, x, w)
    }
}

impl Vector for NeonPairs {
    type X = i16;

    common!();

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, x: int32x4_t, w: int32x4_t) -> int32x4_t {
        // SAFETY: the machine has the instructions, as `Vector` demands.
        unsafe {
            let (x, w) = (vreinterpretq_s16_s32(x), vreinterpretq_s16_s32(w));
            let low = vmull_s16(vget_low_s16(x), vget_low_s16(w));
            vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(x, w)))
        }
    }
}

impl Words for NeonPairs {
    #[inline(always)]
    unsafe fn extended(x: *const i16) -> int32x4_t {
        // Not `vld1_s16`, whose pointer must be aligned.
        // SAFETY: the machine has the instructions, and the memory is there, as `Words` demands.
        unsafe { vmovl_s16(vcreate_s16(x.cast::<u64>().read_unaligned())) }
    }
}

impl Simd for NeonDot {
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4], len: usize, to: *mut u32) {
        // SAFETY: the machine has the instructions, and the memory is there, as `Simd` demands.
        unsafe {
            let mut x = [vdupq_n_s8(0); 4];
            for (x, row) in x.iter_mut().zip(rows) {
                *x = match len {
                    16 => vld1q_s8(row.cast()),
                    _ => {
                        let mut part = [0_i8; 16];
                        part.as_mut_ptr().copy_from_nonoverlapping(row.cast(), len.min(16));
                        vld1q_s8(part.as_ptr())
                    }
                };
            }
            vst4q_s8(to.cast(), int8x16x4_t(x[0], x[1], x[2], x[3]));
        }
    }

    entry_points!(#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon,dotprod"))]);
}
