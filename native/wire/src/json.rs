//! Push scanner.
