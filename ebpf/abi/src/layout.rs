//! The rules for layouts that cross the kernel border, and the hash that names the derived ones.

use core::mem::{align_of, size_of};

use crate::{observe, probe, rows};

/// Types that are nothing but their bytes: any bytes of the right length are a value.
///
/// # Safety
///
/// The type is `repr(C)` or an integer, is `Copy`, holds only fixed-size integers and arrays of them,
/// and has no padding that is not a field. The `plain!` macro checks the size.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: integers are nothing but their bytes.
unsafe impl Plain for u32 {}
// SAFETY: integers are nothing but their bytes.
unsafe impl Plain for u64 {}
// SAFETY: an array of plain values has no padding of its own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Declares a type as [`Plain`] and pins its size and its alignment (at most eight bytes).
macro_rules! plain {
    ($name:ty, $size:expr) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        const _: () = assert!(core::mem::align_of::<$name>() <= 8);
        // SAFETY: all fields are integers or arrays of them, and the size leaves no room for padding.
        unsafe impl $crate::layout::Plain for $name {}
    };
}
pub(crate) use plain;

/// Counts every change of a derived layout or of its meaning that sizes do not show.
pub const DERIVED_VERSION: u32 = 1;

/// Names the folder of the derived maps: a build with other layouts makes its own maps.
pub const ABI_HASH: u64 = hash();

/// Folder of the in-flight maps, whose layout is frozen.
pub const FLIGHT_FOLDER: &str = "flight-v1";

const fn hash() -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325;
    state = fold(state, DERIVED_VERSION as u64);
    state = shape::<rows::PodRow>(state);
    state = shape::<rows::ListenerKey>(state);
    state = shape::<rows::OpenPortKey>(state);
    state = shape::<rows::PortRuleKey>(state);
    state = shape::<rows::NetworkKey>(state);
    state = shape::<rows::ExcludedNetworkKey>(state);
    state = shape::<rows::DestinationKey>(state);
    state = shape::<rows::Counters>(state);
    state = shape::<rows::Heartbeats>(state);
    state = shape::<probe::Prober>(state);
    state = shape::<observe::SeenKey>(state);
    state = shape::<observe::SeenRow>(state);
    shape::<rows::Event>(state)
}

const fn shape<T>(state: u64) -> u64 {
    fold(fold(state, size_of::<T>() as u64), align_of::<T>() as u64)
}

/// FNV-1a over the eight bytes of a number.
const fn fold(mut state: u64, number: u64) -> u64 {
    let bytes = number.to_le_bytes();
    let mut at = 0;
    while at < bytes.len() {
        state = (state ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    state
}
