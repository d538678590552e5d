//! Which kernels will do.

/// The oldest kernel that is tested.
const MINIMUM: (u32, u32) = (6, 1);

/// What is wrong with another one.
pub const TOO_OLD: &str = "The kernel is older than 6.1, the oldest that Weft is tested on.";

/// Whether this release, as `uname -r` says it, is new enough; none if nobody can tell.
pub fn is_new_enough(release: &str) -> Option<bool> {
    version(release).map(|version| version >= MINIMUM)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_old_by_its_numbers_not_by_its_letters() {
        assert_eq!(version("6.12.9+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("5.15.0"), Some((5, 15)));
        assert_eq!(is_new_enough("6.1.0-1"), Some(true));
        assert_eq!(is_new_enough("5.15.0"), Some(false));
        assert_eq!(is_new_enough("what"), None);
    }
}
