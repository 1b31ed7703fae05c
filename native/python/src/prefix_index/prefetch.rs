//! Asking for memory before it is needed.

/// Asks for the line where an element begins, if there is such an element. Reads nothing.
#[inline(always)]
pub fn prefetch<T>(elements: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = elements.get(index) {
        use core::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        let line: *const T = element;
        // SAFETY: a prefetch may be given any address, and every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (elements, index);
}
