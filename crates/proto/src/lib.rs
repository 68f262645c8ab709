//! The generated contracts: messages, clients and servers of `proto/`, and nothing by hand.
//!
//! Owns the Rust form of the protobuf packages `safeconduct.*.v1` and of the subset of Envoy's rate limit protocol
//! that admission serves. Refuses to own any rule: what a value means is decided where it is parsed.
//!
//! `build.rs` compiles the files without a system compiler. Whatever a contract marks with `debug_redact` prints as
//! `[redacted]`: the `Debug` of such messages is generated from the same mark, so a secret can't reach a log by way
//! of `{:?}`. Bytes are `bytes::Bytes` (re-exported by prost), maps are `BTreeMap`.

/// Includes what `build.rs` generated for one protobuf package.
macro_rules! package {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

/// All packages as an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/safeconduct.fds"));

/// Messages that several services share.
pub mod common {
    /// Package `safeconduct.common.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
    pub mod v1 {
        package!("safeconduct.common.v1");
    }
}

/// The service that verifies a contact.
pub mod identity {
    /// Package `safeconduct.identity.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
    pub mod v1 {
        package!("safeconduct.identity.v1");
    }
}

/// The service that proves an address.
pub mod otp {
    /// Package `safeconduct.otp.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
    pub mod v1 {
        package!("safeconduct.otp.v1");
    }
}

/// The services that execute connectors.
pub mod connector {
    /// Package `safeconduct.connector.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
    pub mod v1 {
        package!("safeconduct.connector.v1");
    }
}

/// The service that admits requests.
pub mod admission {
    /// Package `safeconduct.admission.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
    pub mod v1 {
        package!("safeconduct.admission.v1");
    }
}

/// The subset of Envoy's contracts that a gateway needs to call admission.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                package!("envoy.config.core.v3");
            }
        }
    }
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    package!("envoy.extensions.common.ratelimit.v3");
                }
            }
        }
    }
    pub mod service {
        pub mod ratelimit {
            pub mod v3 {
                package!("envoy.service.ratelimit.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            package!("envoy.r#type.v3");
        }
    }
}
