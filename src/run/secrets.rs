//! Which secrets a run knows: those of benchd's own environment and those of the plan.

use benchd_core::record::{Redactor, secrets_of_arguments, secrets_of_environment};
use benchd_plan::LoadedPlan;

/// What takes the secrets of benchd's own environment out of what it says.
pub(crate) fn environment_redactor() -> Redactor {
    Redactor::new(own_secrets())
}

fn own_secrets() -> Vec<String> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    secrets_of_environment(environment.iter().map(|(n, v)| (n.as_str(), v.as_str()))).collect()
}

/// What takes the secrets out of everything that leaves benchd: those of its environment and the plan's.
pub(crate) fn redactor(loaded: &LoadedPlan) -> Redactor {
    let mut secrets = own_secrets();
    secrets.extend(loaded.secrets.values().map(str::to_owned));
    for framework in loaded.plan.frameworks.values() {
        let pairs = framework.env.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        secrets.extend(secrets_of_environment(pairs));
        secrets.extend(secrets_of_arguments(framework.args.iter().map(String::as_str)));
        if let benchd_plan::Source::Command { command, .. } = &framework.source {
            secrets.extend(secrets_of_arguments(command.iter().map(String::as_str)));
        }
    }
    for args in loaded.plan.models.values().flat_map(|model| model.args.values()) {
        secrets.extend(secrets_of_arguments(args.iter().map(String::as_str)));
    }
    // The tail of a webhook's path is its key, also where it shows without the rest of the address.
    if let Some(notify) = &loaded.plan.notify {
        secrets.extend(notify.webhook.rsplit('/').next().map(str::to_owned));
    }
    Redactor::new(secrets)
}
