//! A typed map: rows of plain keys and values behind a descriptor that threads may share.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use weft_abi::Plain;

use super::error::BpfError;
use super::system::{self, Write};

/// A map. Every operation is one system call; concurrent ones are the kernel's to order.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    name: &'static str,
    descriptor: OwnedFd,
    max_entries: u32,
    row: PhantomData<fn(K) -> V>,
}

impl<K: Plain + PartialEq, V: Plain> Table<K, V> {
    /// Opens a pinned map and checks that its rows have our sizes.
    pub(super) fn open(folder: &Path, name: &'static str) -> Result<Self, BpfError> {
        let path = folder.join(name);
        let descriptor = system::open_pin(&path).map_err(BpfError::file("open the map", &path))?;
        let facts = system::map_facts(&descriptor).map_err(BpfError::system("read a map's facts"))?;
        if facts.key_size as usize != size_of::<K>() || facts.value_size as usize != size_of::<V>() {
            return Err(BpfError::Missing { kind: "map of this layout", name });
        }
        Ok(Self { name, descriptor, max_entries: facts.max_entries, row: PhantomData })
    }

    /// One row.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, BpfError> {
        let mut value: V = system::zeroed();
        let there = system::map_lookup(self.as_fd(), key, system::bytes_of_mut(&mut value)).map_err(self.failed())?;
        Ok(there.then_some(value))
    }

    /// One row of a per-CPU map: a value for each possible CPU.
    pub(super) fn get_per_cpu(&self, key: &K) -> Result<Option<Vec<V>>, BpfError> {
        let cpus = possible_cpus()?;
        let stride = size_of::<V>().next_multiple_of(8);
        let mut bytes = vec![0; stride * cpus];
        let there = system::map_lookup(self.as_fd(), key, &mut bytes).map_err(self.failed())?;
        Ok(there.then(|| bytes.chunks_exact(stride).filter_map(system::from_bytes).collect()))
    }

    /// Writes one row.
    pub(super) fn put(&self, key: &K, value: &V) -> Result<(), BpfError> {
        system::map_update(self.as_fd(), key, system::bytes_of(value), Write::Any).map_err(self.failed())
    }

    /// Writes one row unless there is one.
    pub(super) fn put_new(&self, key: &K, value: &V) -> Result<(), BpfError> {
        ignore_existing(system::map_update(self.as_fd(), key, system::bytes_of(value), Write::OnlyNew))
            .map_err(self.failed())
    }

    /// Writes one row of zeroes on every CPU of a per-CPU map, unless there is one.
    pub(super) fn put_new_zeroes_per_cpu(&self, key: &K) -> Result<(), BpfError> {
        let zeroes = vec![0; size_of::<V>().next_multiple_of(8) * possible_cpus()?];
        ignore_existing(system::map_update(self.as_fd(), key, &zeroes, Write::OnlyNew)).map_err(self.failed())
    }

    /// Removes one row if it is there.
    pub(super) fn remove(&self, key: &K) -> Result<(), BpfError> {
        system::map_delete(self.as_fd(), key).map(drop).map_err(self.failed())
    }

    /// All keys; at most as many as the map can hold, even while the programs change it.
    pub(super) fn keys(&self) -> Result<Vec<K>, BpfError> {
        let mut keys: Vec<K> = Vec::new();
        let mut next = system::map_next_key::<K>(self.as_fd(), None).map_err(self.failed())?;
        while let Some(key) = next {
            if keys.len() >= self.max_entries as usize {
                break;
            }
            keys.push(key);
            next = system::map_next_key(self.as_fd(), keys.last()).map_err(self.failed())?;
        }
        Ok(keys)
    }

    /// Removes every row whose key is meant.
    pub(super) fn remove_where(&self, is_meant: impl Fn(&K) -> bool) -> Result<(), BpfError> {
        self.keys()?.iter().filter(|key| is_meant(key)).try_for_each(|key| self.remove(key))
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> BpfError {
        let map = self.name;
        move |source| match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => BpfError::Full { map },
            _ => BpfError::System { action: map, source },
        }
    }
}

impl<K, V> AsFd for Table<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn ignore_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

fn possible_cpus() -> Result<usize, BpfError> {
    aya::util::nr_cpus().map_err(|(path, source)| BpfError::File { action: "read", path: path.into(), source })
}
