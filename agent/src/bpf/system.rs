//! The bpf(2) calls that aya does not offer, and its map calls on descriptors that threads share.

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use weft_abi::Plain;

// Commands of the kernel's `bpf.h`.
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_NEXT_KEY: i32 = 4;
const OBJECT_PIN: i32 = 6;
const OBJECT_GET: i32 = 7;
const PROGRAM_BY_ID: i32 = 13;
const INFO_BY_FD: i32 = 15;
const PROGRAM_QUERY: i32 = 16;
const MAP_FREEZE: i32 = 22;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
const LINK_DETACH: i32 = 34;

/// How an update treats an existing row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Any,
    OnlyNew,
}

#[repr(C)]
struct MapAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct PathAttributes {
    path: u64,
    object: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreateAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

#[repr(C)]
struct LinkUpdateAttributes {
    link: u32,
    new_program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct InfoAttributes {
    object: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    rest: u32,
}

/// Programs at one hook of one cgroup: the kernel lets nobody attach more (`BPF_CGROUP_MAX_PROGS`).
const CGROUP_PROGRAMS: usize = 64;

/// What the kernel tells about a link of a cgroup or a network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkFacts {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    padding: u32,
    /// For a cgroup link the cgroup's number, 0 when the cgroup is gone. For a namespace link the low
    /// half is the namespace's inode, 0 when the namespace is gone.
    pub(super) target: u64,
    rest: [u64; 4],
}

/// What the kernel tells about a map.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct MapFacts {
    kind: u32,
    id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    flags: u32,
    name: [u8; 16],
    rest: [u64; 6],
}

/// One bpf(2) call. What the attributes point to has to live until it returns.
pub(super) fn call<T>(command: i32, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: the attributes are a live, fully initialised value of the size that is passed; what they
    // point to is kept alive by the callers below for the time of the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// The descriptor that a call returned.
pub(super) fn owned(result: i64) -> io::Result<OwnedFd> {
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// What the kernel is told; exposed, because it reads and writes there behind the compiler's back.
pub(super) fn address<T>(value: *const T) -> u64 {
    value.expose_provenance() as u64
}

/// Opens what is pinned at the path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    owned(call(OBJECT_GET, &mut PathAttributes { path: address(path.as_ptr()), object: 0, flags: 0 })?)
}

/// Pins an object.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let object = number(object.as_fd());
    call(OBJECT_PIN, &mut PathAttributes { path: address(path.as_ptr()), object, flags: 0 }).map(drop)
}

/// Attaches a program to a cgroup folder or a network namespace. The link ends with its last reference.
pub(super) fn link_create(program: impl AsFd, target: impl AsFd, attach_type: u32) -> io::Result<OwnedFd> {
    let (program, target) = (number(program.as_fd()), number(target.as_fd()));
    owned(call(LINK_CREATE, &mut LinkCreateAttributes { program, target, attach_type, flags: 0, rest: [0; 4] })?)
}

/// Replaces the link's program at once. ENOLINK: what it was attached to is gone.
pub(super) fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let (link, new_program) = (number(link.as_fd()), number(program.as_fd()));
    call(LINK_UPDATE, &mut LinkUpdateAttributes { link, new_program, flags: 0, old_program: 0 }).map(drop)
}

/// Detaches the link, whoever else holds it.
pub(super) fn link_detach(link: impl AsFd) -> io::Result<()> {
    let mut link = number(link.as_fd());
    call(LINK_DETACH, &mut link).map(drop)
}

/// What the kernel knows about a link.
pub(super) fn link_facts(link: impl AsFd) -> io::Result<LinkFacts> {
    facts(link.as_fd())
}

/// The numbers of all programs that run for this cgroup's sockets, attached to it or to those above it.
pub(super) fn effective_programs(cgroup: impl AsFd, attach_type: u32) -> io::Result<Vec<u32>> {
    // `BPF_F_QUERY_EFFECTIVE`.
    const EFFECTIVE: u32 = 1;
    let mut programs = [0_u32; CGROUP_PROGRAMS];
    let mut attributes = QueryAttributes {
        target: number(cgroup.as_fd()),
        attach_type,
        flags: EFFECTIVE,
        attach_flags: 0,
        programs: address(programs.as_mut_ptr()),
        count: u32::try_from(programs.len()).map_err(io::Error::other)?,
        rest: 0,
    };
    match call(PROGRAM_QUERY, &mut attributes) {
        // There are more, from cgroups above: the first ones say enough.
        Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => return Err(error),
        Ok(_) | Err(_) => {}
    }
    Ok(programs.into_iter().take(attributes.count as usize).filter(|program| *program != 0).collect())
}

/// Opens a program by its number.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    owned(call(PROGRAM_BY_ID, &mut [id, 0, 0])?)
}

/// What the kernel knows about a map.
pub(super) fn map_facts(map: impl AsFd) -> io::Result<MapFacts> {
    facts(map.as_fd())
}

/// What the kernel knows about an object. `T` starts with the fields of the kernel's own structure.
pub(super) fn facts<T: Copy>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = MaybeUninit::<T>::zeroed();
    let length = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    call(INFO_BY_FD, &mut InfoAttributes { object: number(object), length, info: address(info.as_mut_ptr()) })?;
    // SAFETY: all types that this is called with are integers throughout, and zeroes where the kernel
    // wrote nothing.
    Ok(unsafe { info.assume_init() })
}

/// Makes a map constant for user space, and with it a number that the verifier knows.
pub(super) fn map_freeze(map: impl AsFd) -> io::Result<()> {
    call(MAP_FREEZE, &mut number(map.as_fd())).map(drop)
}

/// Reads one row into `value`, which has the size that the kernel has for this map.
pub(super) fn map_lookup<K: Plain>(map: BorrowedFd<'_>, key: &K, value: &mut [u8]) -> io::Result<bool> {
    let mut attributes = map_attributes(map, key, value.as_mut_ptr(), 0);
    match call(MAP_LOOKUP, &mut attributes) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes one row from `value`, which has the size that the kernel has for this map.
pub(super) fn map_update<K: Plain>(map: BorrowedFd<'_>, key: &K, value: &[u8], write: Write) -> io::Result<()> {
    let flags = match write {
        Write::Any => 0,
        Write::OnlyNew => 1,
    };
    call(MAP_UPDATE, &mut map_attributes(map, key, value.as_ptr(), flags)).map(drop)
}

/// Removes one row; false if it was not there.
pub(super) fn map_delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    match call(MAP_DELETE, &mut map_attributes(map, key, std::ptr::null::<u8>(), 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The key after `key`, or the first one.
pub(super) fn map_next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next: K = zeroed();
    let mut attributes = MapAttributes {
        map: number(map),
        padding: 0,
        key: key.map_or(0, |key| address(std::ptr::from_ref(key))),
        value: std::ptr::from_mut(&mut next).expose_provenance() as u64,
        flags: 0,
    };
    match call(MAP_NEXT_KEY, &mut attributes) {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn map_attributes<K: Plain>(map: BorrowedFd<'_>, key: &K, value: *const u8, flags: u64) -> MapAttributes {
    MapAttributes { map: number(map), padding: 0, key: address(std::ptr::from_ref(key)), value: address(value), flags }
}

/// The bytes of a plain value.
pub(super) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a plain value has no padding, so all its bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of a plain value, to be written.
pub(super) fn bytes_of_mut<T: Plain>(value: &mut T) -> &mut [u8] {
    // SAFETY: a plain value has no padding, and any bytes that are written are a value.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(value).cast(), size_of::<T>()) }
}

/// The plain value at the start of the bytes, if there are enough of them.
pub(super) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, any bytes are a plain value, and the read does not need alignment.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// A plain value of zeroes.
pub(super) fn zeroed<T: Plain>() -> T {
    // SAFETY: any bytes are a plain value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
