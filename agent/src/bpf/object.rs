//! The embedded BPF object, made ready for the kernel: its maps opened or made where the pins are, its
//! instructions pointing to them.
//!
//! aya's own loader is not used: it parses the kernel's whole type information at every load, 40 ms and
//! tens of megabytes, which these programs do not need.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::{MapData, MapError};
use aya_obj::btf::BtfError;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use aya_obj::{EbpfSectionKind, Function, Object, ParseError};
use weft_abi::limits::EVENT_RING_BYTES;

use super::error::BpfError;
use super::{program, system};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft.bpf.o"));

/// The object with its maps; they live in the kernel as long as this value, a pin or a program does.
pub(super) struct Prepared {
    object: Object,
    types: Option<OwnedFd>,
    /// Held until the programs are loaded, because their instructions name the descriptors.
    _maps: Vec<OwnedMap>,
}

/// Where a map is pinned and how big it is, if that is not the object's own saying.
pub(super) struct MapPlace {
    pub(super) path: PathBuf,
    pub(super) max_entries: Option<u32>,
}

/// One program's code.
pub(super) struct Code<'a> {
    pub(super) function: &'a Function,
    pub(super) license: &'a CStr,
    pub(super) types: Option<BorrowedFd<'a>>,
}

enum OwnedMap {
    Pinned(OwnedFd),
    Made(MapData),
}

impl AsFd for OwnedMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pinned(descriptor) => descriptor.as_fd(),
            Self::Made(map) => map.fd().as_fd(),
        }
    }
}

impl Prepared {
    /// Parses the object, sets the constants of its programs and gives every map its place: `None` for one that is
    /// not shared.
    pub(super) fn new(
        constants: &[(&'static str, u64)],
        place: impl Fn(&str) -> Option<MapPlace>,
    ) -> Result<Self, BpfError> {
        if OBJECT.is_empty() {
            return Err(BpfError::NoObject);
        }
        let mut object = Object::parse(OBJECT).map_err(unreadable)?;
        let bytes: Vec<_> = constants.iter().map(|(name, number)| (*name, number.to_ne_bytes())).collect();
        let patches: HashMap<_, _> = bytes.iter().map(|(name, bytes)| (*name, (&bytes[..], true))).collect();
        object.patch_map_data(patches).map_err(unreadable)?;
        let types = load_types(&mut object)?;
        let declared: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
        let mut maps = Vec::new();
        for (name, map) in &declared {
            maps.push(open_or_make(name, map.clone(), types.as_ref(), place(name).as_ref())?);
        }
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let rows = declared.iter().zip(&maps).map(|((name, map), open)| (name.as_str(), open.as_fd().as_raw_fd(), map));
        object.relocate_maps(rows, &sections).map_err(|error| refused(EbpfError::RelocationError(error)))?;
        object.relocate_calls(&sections).map_err(|error| refused(EbpfError::RelocationError(error)))?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, types, _maps: maps })
    }

    /// The code of a program.
    pub(super) fn code(&self, name: &'static str) -> Result<Code<'_>, BpfError> {
        let program = self.object.programs.get(name);
        let function = program.and_then(|program| self.object.functions.get(&program.function_key()));
        match (program, function) {
            (Some(program), Some(function)) => {
                Ok(Code { function, license: &program.license, types: self.types.as_ref().map(AsFd::as_fd) })
            }
            _ => Err(BpfError::Missing { kind: "program", name }),
        }
    }
}

fn load_types(object: &mut Object) -> Result<Option<OwnedFd>, BpfError> {
    let Some(features) = aya::features().btf() else {
        return Ok(None);
    };
    let types = object.fixup_and_sanitize_btf(features).map_err(|error: BtfError| refused(error.into()))?;
    types.map(|types| program::load_types(&types.to_bytes())).transpose()
}

fn open_or_make(
    name: &str,
    mut map: aya_obj::Map,
    types: Option<&OwnedFd>,
    place: Option<&MapPlace>,
) -> Result<OwnedMap, BpfError> {
    let path = place.map(|place| &place.path);
    if let Some(path) = path {
        match system::open_pin(path) {
            Ok(descriptor) => return Ok(OwnedMap::Pinned(descriptor)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BpfError::file("open the map", path)(error)),
        }
    }
    if map.map_type() == BPF_MAP_TYPE_RINGBUF as u32 {
        map.set_value_size(0);
        map.set_max_entries(EVENT_RING_BYTES);
    }
    if let Some(max_entries) = place.and_then(|place| place.max_entries) {
        map.set_max_entries(max_entries);
    }
    let content = map.data().to_vec();
    let is_constant = map.section_kind() == EbpfSectionKind::Rodata;
    let made = MapData::create(map, name, types.map(AsFd::as_fd)).map_err(|error: MapError| refused(error.into()))?;
    if !content.is_empty() {
        let written = system::map_update(made.fd().as_fd(), &0_u32, &content, system::Write::Any);
        written.map_err(BpfError::system("write the constants of a program"))?;
    }
    if is_constant {
        system::map_freeze(made.fd()).map_err(BpfError::system("freeze the constants of a program"))?;
    }
    if let Some(path) = path {
        system::pin(made.fd(), path).map_err(BpfError::file("pin", path))?;
    }
    Ok(OwnedMap::Made(made))
}

fn unreadable(error: ParseError) -> BpfError {
    refused(EbpfError::ParseError(error))
}

fn refused(error: EbpfError) -> BpfError {
    BpfError::Object(Box::new(error))
}
