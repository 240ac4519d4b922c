//! See `naive_ptq_fuzz::npy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    naive_ptq_fuzz::npy(data);
});
