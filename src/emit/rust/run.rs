//! Reads inputs from standard input and writes to standard output, for each, what every layer computes
//! and the output.

use std::io::{Read, Write};
use std::sync::Mutex;

use @NAME::{INPUT_SIZE, Net, OUTPUT_SIZE};

type Code = @CODE;

fn main() -> std::io::Result<()> {
    // Too large for the stack, perhaps.
    static NET: Mutex<Net> = Mutex::new(Net::new());
    static INPUT: Mutex<[Code; INPUT_SIZE]> = Mutex::new([0; INPUT_SIZE]);
    static OUTPUT: Mutex<[Code; OUTPUT_SIZE]> = Mutex::new([0; OUTPUT_SIZE]);
    let (mut net, mut input) = (NET.lock().unwrap(), INPUT.lock().unwrap());
    let mut output = OUTPUT.lock().unwrap();
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut bytes = vec![0; INPUT_SIZE * size_of::<Code>()];
    while stdin.read_exact(&mut bytes).is_ok() {
        let codes = bytes.chunks_exact(size_of::<Code>());
        for (code, bytes) in input.iter_mut().zip(codes) {
            *code = Code::from_le_bytes(bytes.try_into().unwrap());
        }
        let mut all = Vec::new();
        let mut put = |codes: &[Code]| all.extend(codes.iter().flat_map(|code| code.to_le_bytes()));
        net.run_traced(&input, &mut output, |_, codes| put(codes));
        put(&output[..]);
        stdout.write_all(&all)?;
        stdout.flush()?;
    }
    Ok(())
}
