//! Constants that hold more or less than they say, or lie elsewhere.

use super::*;

#[test]
fn raw_data_of_another_length() {
    for (bytes, text) in
        [(15, "15 bytes, expected 16"), (17, "17 bytes, expected 16"), (0, "0 bytes, ")]
    {
        let weight = tensor("w", dt::FLOAT, &[2, 2, 1, 1], vec![0; bytes]);
        let model = edited(conv(vec![]), |g| g.initializer = vec![weight]);
        refused(&model, &format!("tensor \"w\" of shape [2, 2, 1, 1] holds {text}"));
    }
    let none = TensorProto { raw_data: None, ..real("w", &[2, 2, 1, 1], &[]) };
    let model = edited(conv(vec![]), |g| g.initializer = vec![none]);
    refused(&model, "tensor \"w\" of shape [2, 2, 1, 1] holds 0 elements, expected 4");
}

#[test]
fn external_data_without_a_folder() {
    let with = |location: i32, entries: &[(&str, &str)]| {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: key.into(),
            value: value.into(),
        };
        let weight = TensorProto {
            raw_data: None,
            data_location: location,
            external_data: entries.iter().map(entry).collect(),
            ..real("w", &[2, 2, 1, 1], &[])
        };
        edited(conv(vec![]), |g| g.initializer = vec![weight])
    };
    refused(
        &with(1, &[("location", "w.bin")]),
        "the external data of tensor \"w\": there is no folder",
    );
    refused(&with(2, &[]), "tensor \"w\" has data location 2");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.bin"), [0; 16]).unwrap();
    let read =
        |entries: &[(&str, &str)]| import(&with(1, entries).encode_to_vec(), Some(dir.path()));
    read(&[("location", "./w.bin"), ("offset", "0"), ("length", "16")]).unwrap();
    for (key, text, expected) in [
        ("length", "15", "length 15, expected 16"),
        ("length", "18446744073709551615", "expected 16"),
        ("offset", "x", "offset is not a number"),
        ("offset", "-1", "offset is not a number"),
        ("offset", "1", "16 bytes at 1 of \"w.bin\", which has 16"),
        ("offset", "18446744073709551615", "w.bin"),
    ] {
        let error = read(&[("location", "w.bin"), (key, text)]).unwrap_err().to_string();
        assert!(error.contains("\"w\"") && error.contains(expected), "{key} {text}: {error}");
    }
    for location in ["../w.bin", "a/../../w.bin", "/etc/passwd", "", ".", "missing"] {
        assert!(read(&[("location", location)]).is_err(), "{location}");
    }
}
