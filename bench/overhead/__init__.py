"""What a request costs here, beside plain Envoy and the Rust routers, in interleaved rounds."""
