//! Reading and writing fields by offset, without a way to panic: what lies outside is `None` when
//! read, and nothing happens when it is written.

/// `N` octets at `at`.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// `N` octets at `at`, to edit.
#[inline]
pub(crate) fn array_at_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// The 16-bit field at `at`, in network byte order.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(|b| u16::from_be_bytes(*b))
}

/// The 32-bit field at `at`, in network byte order.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(|b| u32::from_be_bytes(*b))
}

/// Overwrites the octets at `at`, if all of them are there.
#[inline]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = array_at_mut(bytes, at) {
        *field = value;
    }
}

/// A length as a 16-bit field, 65535 if it does not fit.
#[inline]
pub(crate) fn clamp16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
