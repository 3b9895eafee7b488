//! The machine against what the plan expects of it.

use benchd_core::record::GpuHost;
use benchd_plan::Host;

/// Something that is not as the plan expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What is, and what was expected.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// Compares the GPU with `host.expect` of the plan; empty where all is as expected.
pub fn check_expectations(expected: &Host, found: &GpuHost) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    if let Some(name) = &expected.expect.gpu_name {
        for device in &found.devices {
            if !device.name.to_lowercase().contains(&name.to_lowercase()) {
                mismatches.push(Mismatch {
                    text: format!(
                        "GPU {} is {}, the plan expects a name with {name:?}",
                        device.index, device.name
                    ),
                    hint: "run this plan on its own machine, choose another device in `host.gpu`, or change \
                           `host.expect.gpu_name`"
                        .to_owned(),
                });
            }
        }
    }
    if let Some(driver) = &expected.expect.driver
        && !version_fits(driver, &found.driver)
    {
        mismatches.push(Mismatch {
            text: format!("the NVIDIA driver is {}, the plan expects {driver}", found.driver),
            hint: format!(
                "install driver {driver}, or change `host.expect.driver` to {}",
                found.driver
            ),
        });
    }
    mismatches
}

/// Whether `found` is the version `expected`, or one of its series: `570` and `570.86` fit `570.86.10`,
/// `57` does not.
pub fn version_fits(expected: &str, found: &str) -> bool {
    found
        .trim()
        .strip_prefix(expected.trim())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || expected.trim().ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_core::record::GpuDevice;
    use benchd_plan::{DeviceSelector, Expect, GpuSelection};

    fn found() -> GpuHost {
        GpuHost {
            driver: "570.86.10".to_owned(),
            cuda: Some("12.8".to_owned()),
            nvml: None,
            devices: vec![GpuDevice {
                index: 1,
                uuid: "GPU-1".to_owned(),
                name: "NVIDIA A100-SXM4-80GB".to_owned(),
                memory_total_bytes: 1,
                memory_used_bytes: 0,
                power_limit_mw: None,
                sm_clock_max_mhz: None,
                pci_bus_id: None,
                mig: None,
                ecc_uncorrected: None,
                compute_capability: None,
            }],
        }
    }

    fn expecting(name: Option<&str>, driver: Option<&str>) -> Host {
        Host {
            gpu: GpuSelection::Devices(vec![DeviceSelector::Index(1)]),
            expect: Expect {
                gpu_name: name.map(str::to_owned),
                driver: driver.map(str::to_owned),
                ..Expect::default()
            },
            exclusive: true,
            stranger_wait: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn what_fits_is_silent() {
        assert_eq!(check_expectations(&expecting(None, None), &found()), []);
        assert_eq!(
            check_expectations(&expecting(Some("a100"), Some("570.86.10")), &found()),
            []
        );
        assert_eq!(check_expectations(&expecting(None, Some("570")), &found()), []);
    }

    #[test]
    fn what_differs_is_named_on_both_sides() {
        let mismatches = check_expectations(&expecting(Some("RTX 5090"), Some("57")), &found());
        assert_eq!(mismatches.len(), 2);
        assert_eq!(
            mismatches[0].text,
            "GPU 1 is NVIDIA A100-SXM4-80GB, the plan expects a name with \"RTX 5090\""
        );
        assert_eq!(
            mismatches[1].text,
            "the NVIDIA driver is 570.86.10, the plan expects 57"
        );
        assert!(mismatches[1].hint.contains("host.expect.driver"));
    }
}
