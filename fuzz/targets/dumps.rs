//! See `naive_ptq_fuzz::dumps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    naive_ptq_fuzz::dumps(data);
});
