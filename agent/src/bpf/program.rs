//! Programs and their types: the system calls that load them.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use super::error::BpfError;
use super::object::Code;
use super::system;

// Commands of the kernel's `bpf.h`.
const PROGRAM_LOAD: i32 = 5;
const TYPES_LOAD: i32 = 18;

/// What the verifier may say about a program that it refuses.
const LOG_BYTES: u32 = 1 << 20;
/// How much of the end of that goes into an error.
const LOG_TAIL: usize = 2000;

/// `BPF_PROG_TYPE_*` and the attach type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) program_type: u32,
    pub(super) attach_type: u32,
}

#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_record_size: u32,
    functions: u64,
    function_count: u32,
    line_record_size: u32,
    lines: u64,
    line_count: u32,
    rest: u32,
}

#[repr(C)]
struct TypesAttributes {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// What the kernel tells about a program.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ProgramFacts {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    pub(super) translated_bytes: u32,
    before_name: [u32; 10],
    name: [u8; 16],
    /// Up to `verified_insns`, which is at this place since Linux 5.16.
    rest: [u32; 34],
    pub(super) verified_instructions: u32,
    padding: u32,
}

const _: () = assert!(std::mem::offset_of!(ProgramFacts, name) == 64);
const _: () = assert!(std::mem::offset_of!(ProgramFacts, verified_instructions) == 216);

impl ProgramFacts {
    /// As it was loaded, up to 15 bytes.
    pub(super) fn name(&self) -> String {
        let length = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..length]).into_owned()
    }
}

/// Loads the types that maps and programs refer to.
pub(super) fn load_types(bytes: &[u8]) -> Result<OwnedFd, BpfError> {
    let size = u32::try_from(bytes.len()).map_err(|_| BpfError::Limit("the object's types are too big"))?;
    let mut attributes =
        TypesAttributes { types: system::address(bytes.as_ptr()), log: 0, size, log_size: 0, log_level: 0, padding: 0 };
    system::call(TYPES_LOAD, &mut attributes)
        .and_then(system::owned)
        .map_err(BpfError::system("load the object's types"))
}

/// Loads a program; if the verifier refuses it, once more with the verifier's words.
pub(super) fn load(name: &'static str, kind: Kind, code: &Code<'_>) -> Result<OwnedFd, BpfError> {
    match attempt(name, kind, code, &mut []) {
        Ok(program) => Ok(program),
        Err(source) => {
            let mut log = vec![0; LOG_BYTES as usize];
            let again = attempt(name, kind, code, &mut log);
            let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
            let said = said.get(said.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
            again.map_err(|_| BpfError::Program { name, source, said: String::from_utf8_lossy(said).into_owned() })
        }
    }
}

/// What the kernel knows about a program.
pub(super) fn facts(program: impl AsFd) -> Result<ProgramFacts, BpfError> {
    system::facts(program.as_fd()).map_err(BpfError::system("read a program's facts"))
}

fn attempt(name: &str, kind: Kind, code: &Code<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let function = code.function;
    let functions = function.func_info.func_info_bytes();
    let lines = function.line_info.line_info_bytes();
    let mut attributes = LoadAttributes {
        program_type: kind.program_type,
        instruction_count: length(function.instructions.len())?,
        instructions: system::address(function.instructions.as_ptr()),
        license: system::address(code.license.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_size: length(log.len())?,
        log: if log.is_empty() { 0 } else { system::address(log.as_mut_ptr()) },
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type: kind.attach_type,
        types: 0,
        function_record_size: 0,
        functions: 0,
        function_count: 0,
        line_record_size: 0,
        lines: 0,
        line_count: 0,
        rest: 0,
    };
    for (place, byte) in attributes.name.iter_mut().zip(name.bytes().take(15)) {
        *place = byte;
    }
    if let Some(types) = code.types {
        attributes.types = types.as_raw_fd().cast_unsigned();
        attributes.function_record_size = length(function.func_info_rec_size)?;
        attributes.functions = system::address(functions.as_ptr());
        attributes.function_count = length(functions.len().checked_div(function.func_info_rec_size).unwrap_or(0))?;
        attributes.line_record_size = length(function.line_info_rec_size)?;
        attributes.lines = system::address(lines.as_ptr());
        attributes.line_count = length(lines.len().checked_div(function.line_info_rec_size).unwrap_or(0))?;
    }
    system::call(PROGRAM_LOAD, &mut attributes).and_then(system::owned)
}

fn length(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(io::Error::other)
}

const _: () = assert!(size_of::<LoadAttributes>() == 112);
