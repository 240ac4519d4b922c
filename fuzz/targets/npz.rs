//! See `naive_ptq_fuzz::npz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    naive_ptq_fuzz::npz(data);
});
