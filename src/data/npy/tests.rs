use proptest::prelude::*;

use super::*;

/// A file of version 1 with this header.
fn file(header: &str, elements: &[u8]) -> Vec<u8> {
    let len = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), elements].concat()
}

fn header(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
}

fn error(bytes: &[u8]) -> String {
    read_npy(bytes).unwrap_err().to_string()
}

#[test]
fn written_bytes_are_numpys() {
    let x = Tensor::new([2, 1], vec![1i16, -2]).unwrap();
    let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    expected.extend(b"{'descr': '<i2', 'fortran_order': False, 'shape': (2, 1), }");
    expected.resize(127, b' ');
    expected.extend(b"\n\x01\x00\xfe\xff");
    assert_eq!(write_npy(&x), expected);
}

#[test]
fn every_dtype_and_byte_order_is_read() {
    let read = |descr: &str, elements: &[u8]| {
        let count = elements.len() / descr[2..].parse::<usize>().unwrap();
        read_npy(&file(&header(descr, &format!("({count},)")), elements)[..]).unwrap()
    };
    assert_eq!(read("|b1", &[0, 1, 2]), Array::U8(Tensor::from_vec(vec![0, 1, 1])));
    assert_eq!(read("|u1", &[7, 255]), Array::U8(Tensor::from_vec(vec![7, 255])));
    assert_eq!(read("|i1", &[7, 255]), Array::I8(Tensor::from_vec(vec![7, -1])));
    assert_eq!(read("<u2", &[1, 0, 0xff, 0xff]), Array::I32(Tensor::from_vec(vec![1, 65535])));
    assert_eq!(read(">i2", &[1, 0, 0xff, 0xfe]), Array::I16(Tensor::from_vec(vec![256, -2])));
    let halves = [0, 0x3C, 0, 0xC0, 1, 0, 0, 0x7C];
    let expected = vec![1.0, -2.0, f32::exp2(-24.0), f32::INFINITY];
    assert_eq!(read("<f2", &halves), Array::F32(Tensor::from_vec(expected)));
    assert_eq!(read(">f2", &[0x35, 0x55]), Array::F32(Tensor::from_vec(vec![0.33325195])));
    assert_eq!(read("<u4", &[255; 4]), Array::I64(Tensor::from_vec(vec![4294967295])));
    assert_eq!(read("<i4", &[0, 0, 1, 0]), Array::I32(Tensor::from_vec(vec![65536])));
    assert_eq!(read(">u8", &[0, 0, 0, 0, 0, 0, 0, 9]), Array::I64(Tensor::from_vec(vec![9])));
    assert_eq!(read("<i8", &[255; 8]), Array::I64(Tensor::from_vec(vec![-1])));
    assert_eq!(read("<f4", &[0, 0, 0x80, 0x3f]), Array::F32(Tensor::from_vec(vec![1.0])));
    assert_eq!(read(">f8", &[0xc0, 0, 0, 0, 0, 0, 0, 0]), Array::F64(Tensor::from_vec(vec![-2.0])));
    assert_eq!(
        error(&file(&header("<u8", "(1,)"), &[255; 8])),
        "18446744073709551615 is beyond int64"
    );
}

#[test]
fn header_variants_are_read() {
    let expected = Array::U8(Tensor::new([1, 2], vec![3, 4]).unwrap());
    let text = r#" {"shape":(1,2),'fortran_order':False , "descr":"|u1"}"#;
    assert_eq!(read_npy(&file(text, &[3, 4])[..]).unwrap(), expected);
    let text = header("|u1", "(1, 2)");
    for version in [2, 3] {
        let len = u32::try_from(text.len()).unwrap().to_le_bytes();
        let bytes = [&b"\x93NUMPY"[..], &[version, 0], &len, text.as_bytes(), &[3, 4]].concat();
        assert_eq!(read_npy(&bytes[..]).unwrap(), expected);
    }
    assert_eq!(read_npy(&file(&header("<f4", "(0, 3)"), &[])[..]).unwrap().shape(), [0, 3]);
    assert_eq!(read_npy(&file(&header("|i1", "()"), &[5])[..]).unwrap().to_f32().data(), [5.0]);
}

#[test]
fn round_trips() {
    for shape in [vec![], vec![6], vec![0], vec![2, 3], vec![1; 30], vec![usize::MAX / 64, 0]] {
        let data: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 - 0.5).collect();
        let x = Tensor::new(shape, data).unwrap();
        let bytes = write_npy(&x);
        assert_eq!((bytes.len() - size_of_val(x.data())) % 64, 0);
        assert_eq!(read_npy(&bytes[..]).unwrap(), Array::F32(x.clone()));
        let x = x.map(|&v| f64::from(v) / 3.0);
        assert_eq!(read_npy(&write_npy(&x)[..]).unwrap(), Array::F64(x));
    }
    let x = Tensor::from_vec(vec![i64::MIN, -1, i64::MAX]);
    assert_eq!(read_npy(&write_npy(&x)[..]).unwrap().integers().unwrap(), x.into_data());
}

/// The first axis is the fastest: of `[2, 3]`, what lies as 1 4 2 5 3 6 are the rows 1 2 3 and 4 5 6.
#[test]
fn the_order_of_fortran_is_read() {
    for (descr, bytes) in
        [("|u1", vec![1, 4, 2, 5, 3, 6]), (">u2", vec![0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6])]
    {
        let fortran = file(&header(descr, "(2, 3)").replace("False", "True"), &bytes);
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let array = read_npy(&fortran[..]).unwrap().to_f32();
        assert_eq!((array.shape(), array.data()), (&[2, 3][..], &rows[..]));
        let all = crate::data::rows::Rows::new(&fortran[..], None).unwrap();
        for (i, row) in rows.chunks(3).enumerate() {
            assert_eq!(all.get(i).unwrap().to_f32().data(), row);
        }
        assert!(read_npy(&fortran[..fortran.len() - 1]).is_err());
        assert!(read_npy(&[&fortran[..], &[0]].concat()[..]).is_err());
    }
}

#[test]
fn refusals_tell_why() {
    assert_eq!(error(b"\x89PNG\r\n\x1a\n"), "not a .npy file");
    assert_eq!(error(b"\x93NUMPY\x04\x00"), "unsupported: .npy version 4.0");
    assert_eq!(
        error(&file(&header("<c8", "(1,)"), &[0; 8])),
        "unsupported: dtype \"<c8\"; accepted are bool, int8 to int64, uint8 to uint64, float16, float32, float64"
    );
    let structured = header("|u1", "(1,)").replace("'|u1'", "[('a', '<f4')]");
    assert_eq!(error(&file(&structured, &[0; 4])), "unsupported: structured dtypes");
}

#[test]
fn lying_headers_are_errors() {
    let claim = |shape| error(&file(&header("<f4", shape), &[0; 8]));
    assert_eq!(claim("(1,)"), "bytes after the last element of shape [1]");
    assert_eq!(claim("(3,)"), "the elements end after 8 of 12 bytes");
    assert_eq!(
        claim("(1000000000000000000,)"),
        "the elements end after 8 of 4000000000000000000 bytes"
    );
    assert!(claim("(4294967296, 4294967296)").ends_with("has too many elements"));
    for malformed in ["(2", "(2,,)", "(-2,)", "(2.0,)", "(99999999999999999999,)", "2", "(2,)}{"] {
        assert!(claim(malformed).starts_with("malformed header"), "{malformed}");
    }
    assert_eq!(
        error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        "a header of 4294967295 bytes; at most 65536 are expected"
    );
    for malformed in
        ["", "{}", "{'shape': (), }", "{'descr': '<f4', 'x': 1}", "{'descr: 1}", "\u{e9}"]
    {
        assert!(error(&file(malformed, &[])).starts_with("malformed header"), "{malformed}");
    }
    assert_eq!(error(b"\x93NUMPY\x01\x00\x01\x00\xff"), "malformed header: not a text");
}

#[test]
fn truncated_files_are_errors() {
    let bytes = write_npy(&Tensor::from_vec(vec![1.0f64, 2.0]));
    for len in 0..bytes.len() {
        assert!(read_npy(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
}

proptest! {
    #[test]
    fn flipped_bits_do_not_panic(at in 0..140usize, bit in 0..8u32) {
        let mut bytes = write_npy(&Tensor::from_vec(vec![1u8; 12]));
        bytes[at] ^= 1 << bit;
        if let Ok(array) = read_npy(&bytes[..]) {
            prop_assert_eq!(array.shape().iter().product::<usize>(), array.to_f32().data().len());
        }
    }

    #[test]
    fn arbitrary_headers_do_not_panic(text in "[{}()',:a-z<|0-9 ]{0,60}") {
        let _ = read_npy(&file(&text, &[0; 4])[..]);
    }
}
