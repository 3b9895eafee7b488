//! What can go wrong with NVML, and what to do about it.

use nvml_wrapper::error::NvmlError;

/// NVML failed as a whole, or for a device that the plan chose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The library can't be loaded.
    #[error("the plan chooses a GPU, but the NVML library {library} can't be loaded: {detail}")]
    LibraryMissing {
        /// Path or file name that was tried.
        library: String,
        /// The loader's words.
        detail: String,
    },
    /// A library was loaded, and it is no NVML.
    #[error("{library} is no NVML library that can be used: {detail}")]
    NotNvml {
        /// Path or file name that was tried.
        library: String,
        /// What is missing.
        detail: String,
    },
    /// The kernel module isn't loaded.
    #[error("the NVIDIA driver is not loaded: {detail}")]
    DriverNotLoaded {
        /// NVML's words.
        detail: String,
    },
    /// The library is of another version than the kernel module.
    #[error("the NVIDIA driver and its libraries have different versions: {detail}")]
    VersionMismatch {
        /// NVML's words.
        detail: String,
    },
    /// This user may not talk to the driver.
    #[error("no permission to talk to the NVIDIA driver: {detail}")]
    NoPermission {
        /// NVML's words.
        detail: String,
    },
    /// No device has this index.
    #[error("there is no GPU {index}; there {present}")]
    NoSuchIndex {
        /// The index that the plan names.
        index: u32,
        /// The devices that are there, in words.
        present: String,
    },
    /// No device has this UUID.
    #[error("there is no GPU {uuid}; there {present}")]
    NoSuchUuid {
        /// The UUID that the plan names.
        uuid: String,
        /// The devices that are there, in words.
        present: String,
    },
    /// One device is named twice.
    #[error("the plan names GPU {uuid} twice")]
    NamedTwice {
        /// UUID of the device.
        uuid: String,
    },
    /// A MIG instance together with another device.
    #[error("the plan names the MIG instance {uuid} beside another device")]
    MigBesideOthers {
        /// UUID of the MIG instance.
        uuid: String,
    },
    /// The device fell off the bus, or needs a reset.
    #[error("GPU {device} is lost: {detail}")]
    Lost {
        /// Index or UUID.
        device: String,
        /// NVML's words.
        detail: String,
    },
    /// A value without which nothing can be proved.
    #[error("GPU {device} does not answer {call}: {detail}")]
    Unanswered {
        /// Index or UUID.
        device: String,
        /// The NVML function.
        call: &'static str,
        /// NVML's words.
        detail: String,
    },
    /// Any other failure.
    #[error("NVML failed at {call}: {detail}")]
    Call {
        /// The NVML function.
        call: &'static str,
        /// NVML's words.
        detail: String,
    },
    /// No thread could be started.
    #[error("the NVML thread can't be started: {detail}")]
    NoThread {
        /// The system's words.
        detail: String,
    },
    /// The NVML thread is gone.
    #[error("the NVML thread has ended")]
    ThreadEnded,
}

impl GpuError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::LibraryMissing { .. } => {
                "install the NVIDIA driver (libnvidia-ml.so.1 comes with it; in a container it comes with the \
                 NVIDIA container toolkit and NVIDIA_DRIVER_CAPABILITIES=utility), name the library in \
                 BENCHD_NVML_LIB, or write `gpu: none` for a machine without a GPU"
            }
            Self::NotNvml { .. } => "let BENCHD_NVML_LIB name the driver's libnvidia-ml.so.1, or unset it",
            Self::DriverNotLoaded { .. } => {
                "load the kernel module (`modprobe nvidia`); `dmesg` says why it refuses"
            }
            Self::VersionMismatch { .. } => {
                "the driver was updated while it was loaded: reboot, or unload and load the nvidia modules"
            }
            Self::NoPermission { .. } => {
                "let this user read and write /dev/nvidiactl and /dev/nvidia0 (group `video` or `render`, or the \
                 unit's DeviceAllow)"
            }
            Self::NoSuchIndex { .. } | Self::NoSuchUuid { .. } => {
                "choose one of these in `host.gpu`; CUDA_VISIBLE_DEVICES does not change NVML's numbers"
            }
            Self::NamedTwice { .. } => "name each device once in `host.gpu`",
            Self::MigBesideOthers { .. } => {
                "a CUDA process sees one MIG instance only: name it alone in `host.gpu`"
            }
            Self::Lost { .. } => {
                "see `dmesg` for the Xid; the device needs a reset (`nvidia-smi --gpu-reset`) or a reboot"
            }
            Self::Unanswered { .. } => {
                "benchd needs NVML's memory call version 2 and process call version 3: driver 510 or newer, and a device \
                 that has memory of its own"
            }
            Self::Call { .. } | Self::NoThread { .. } | Self::ThreadEnded => return None,
        })
    }

    /// A failure of `nvmlInit_v2`, or of the loading before it.
    pub(super) fn at_init(library: &str, error: &NvmlError) -> Self {
        let library = library.to_owned();
        let detail = error.to_string();
        match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => Self::LibraryMissing {
                library,
                detail: with_causes(error),
            },
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
                Self::NotNvml { library, detail }
            }
            NvmlError::DriverNotLoaded => Self::DriverNotLoaded { detail },
            NvmlError::LibRmVersionMismatch => Self::VersionMismatch { detail },
            NvmlError::NoPermission | NvmlError::OperatingSystem => Self::NoPermission { detail },
            _ => Self::Call {
                call: "nvmlInit_v2",
                detail,
            },
        }
    }

    /// A failure of a call on a device, where the value must be there.
    pub(super) fn at_device(device: &str, call: &'static str, error: &NvmlError) -> Self {
        let device = device.to_owned();
        let detail = error.to_string();
        match CallErrorKind::of(error) {
            CallErrorKind::Lost => Self::Lost { device, detail },
            CallErrorKind::NoPermission => Self::NoPermission { detail },
            CallErrorKind::Unsupported | CallErrorKind::Other => Self::Unanswered { device, call, detail },
        }
    }
}

/// An error with what caused it; `libloading` hides the loader's own words in the cause.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// What kind of failure one call had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallErrorKind {
    /// This driver or this device has no such value, and will never have.
    Unsupported,
    /// The device fell off the bus or needs a reset.
    Lost,
    /// This user may not ask.
    NoPermission,
    /// Any other; the next call may succeed.
    Other,
}

impl CallErrorKind {
    pub(super) fn of(error: &NvmlError) -> Self {
        match error {
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound | NvmlError::NotSupported => {
                Self::Unsupported
            }
            NvmlError::GpuLost | NvmlError::ResetRequired => Self::Lost,
            NvmlError::NoPermission => Self::NoPermission,
            _ => Self::Other,
        }
    }
}

/// One call on one device that failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{call}: {detail}")]
pub struct CallError {
    /// The NVML function.
    pub call: &'static str,
    /// Whether the value can come yet.
    pub kind: CallErrorKind,
    /// NVML's words.
    pub detail: String,
}

impl CallError {
    pub(super) fn new(call: &'static str, error: &NvmlError) -> Self {
        Self {
            call,
            kind: CallErrorKind::of(error),
            detail: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_init_has_its_own_words() {
        let cases = [
            (NvmlError::LibraryNotFound, "can't be loaded", "gpu: none"),
            (NvmlError::DriverNotLoaded, "driver is not loaded", "modprobe"),
            (NvmlError::LibRmVersionMismatch, "different versions", "reboot"),
            (NvmlError::NoPermission, "no permission", "/dev/nvidiactl"),
            (
                NvmlError::FailedToLoadSymbol("nvmlInit_v2".to_owned()),
                "no NVML library",
                "BENCHD_NVML_LIB",
            ),
        ];
        for (cause, words, remedy) in cases {
            let error = GpuError::at_init("lib.so", &cause);
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains(remedy)), "{error}");
        }
        let other = GpuError::at_init("lib.so", &NvmlError::Unknown);
        assert_eq!(
            other.to_string(),
            "NVML failed at nvmlInit_v2: an internal driver error occurred"
        );
        assert_eq!(other.hint(), None);
    }

    #[test]
    fn a_lost_device_is_told_from_a_missing_value() {
        let lost = GpuError::at_device("0", "nvmlDeviceGetMemoryInfo_v2", &NvmlError::GpuLost);
        assert!(
            matches!(&lost, GpuError::Lost { device, .. } if device == "0"),
            "{lost}"
        );
        let reset = GpuError::at_device("0", "nvmlDeviceGetMemoryInfo_v2", &NvmlError::ResetRequired);
        assert!(matches!(reset, GpuError::Lost { .. }));
        let missing = GpuError::at_device("0", "nvmlDeviceGetMemoryInfo_v2", &NvmlError::NotSupported);
        assert!(
            missing.to_string().contains("nvmlDeviceGetMemoryInfo_v2"),
            "{missing}"
        );
        assert!(missing.hint().is_some_and(|hint| hint.contains("510")));
    }
}
