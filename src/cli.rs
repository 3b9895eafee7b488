//! The command line: types only. What each command does stands under `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Takes a GPU machine for a night and answers, with evidence, which LLM serving framework serves a model
/// best there.
#[derive(Debug, Parser)]
#[command(name = "benchd", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every cell measured, no request failed
  1    finished, with lanes, cells or requests that failed; all recorded
  2    the plan or the arguments are wrong; nothing was started
  3    the machine is not fit, or the GPU is busy or held by another benchd
  4    stopped for safety: GPU memory not released, or a process that won't die
  5    `benchd compare --fail-on-regression`: something got worse
  130  interrupted by INT, 129 by HUP, 143 by TERM; go on with `benchd run PLAN --resume`";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a plan: every framework, every model, every scenario, one server at a time
    Run(RunArgs),
    /// Find what can go wrong with a plan on this machine, the worst first, each finding with its remedy
    ///
    /// Starts nothing without --start. Exit code 3 where the run should not start; warnings alone are exit code 0.
    Check(CheckArgs),
    /// Show where a run stands, also while another process runs it
    Status(StatusArgs),
    /// Write the report of a run, finished or not, or of several in one
    Report(ReportArgs),
    /// Compare a new run with an old one, cell by cell
    Compare(CompareArgs),
    /// Make the environments that a plan names, and fetch its models
    ///
    /// Does nothing where all is there. What is broken off goes on where it stopped; nothing half-made is left.
    Env(EnvArgs),
    /// Measure this client against the simulated server on this machine, and print its error
    Selfcheck(SelfcheckArgs),
    /// Print the JSON Schema of the plan, or of a file that benchd writes
    Schema(SchemaArgs),
    /// Serve the simulated inference server
    Sim(Box<benchd_sim::Args>),
}

/// Where results and logs lie.
#[derive(Debug, Clone, Args)]
pub(crate) struct Places {
    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(crate) results: PathBuf,
    /// Folder of all logs
    #[arg(long, value_name = "DIR", default_value = "logs")]
    pub(crate) logs: PathBuf,
}

/// Arguments of `benchd run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The plan, a YAML file
    pub(crate) plan: PathBuf,
    /// Go on with an unfinished run of this plan: the newest, or the one named
    ///
    /// Starts a run where there is none to go on with. A plan that changed since is refused.
    #[arg(long, value_name = "RUN", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) resume: Option<String>,
    /// Run only a part: `framework=vllm,scenario=korean`; may be given several times
    #[arg(long, value_name = "KEY=NAME,…")]
    pub(crate) only: Vec<String>,
    /// Print lanes, cells, each server's command line and environment, and the estimated time; start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: judge the lanes for this GPU (`rtx5090`, `a100`, `h100`, …), not for this machine's
    #[arg(long, value_name = "NAME", requires = "dry_run")]
    pub(crate) gpu: Option<String>,
    /// Leave out lanes that are known not to start on this machine, and run the others
    ///
    /// Each is recorded as failed, with the reason. Without this the run is refused (3) before anything is started.
    #[arg(long)]
    pub(crate) skip_unfit: bool,
    /// Leave out the client's own short check before the first lane
    ///
    /// The report then can't say how large the client's own error is. For runs that test benchd.
    #[arg(long, hide = true)]
    pub(crate) no_selfcheck: bool,
    /// Results and logs.
    #[command(flatten)]
    pub(crate) places: Places,
}

/// Arguments of `benchd check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The plan, a YAML file
    pub(crate) plan: PathBuf,
    /// Check only what a part needs: `framework=vllm,scenario=korean`; may be given several times
    #[arg(long, value_name = "KEY=NAME,…")]
    pub(crate) only: Vec<String>,
    /// Print JSON instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Judge the plan for this GPU (`rtx5090`, `a100`, `h100`, …), not for this machine
    ///
    /// Looks only at what is known of the plan's frameworks and models on it, and whether models that lie here fit.
    #[arg(long, value_name = "NAME", conflicts_with = "start")]
    pub(crate) gpu: Option<String>,
    /// Then start each lane's server once, ask it one question, stop it, prove that its GPU memory came back, and say
    /// what the run will need
    ///
    /// Only where nothing forbids the run. Takes some minutes; compile caches are warm afterwards.
    #[arg(long)]
    pub(crate) start: bool,
    /// Results and logs.
    #[command(flatten)]
    pub(crate) places: Places,
}

/// Arguments of `benchd status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Run id or folder; the newest where none is given
    pub(crate) run: Option<String>,
    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(crate) results: PathBuf,
}

/// Arguments of `benchd report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run ids or folders; the newest where none is given
    ///
    /// Of several runs one report is made: nights of one machine are pooled, machines stand side by side.
    #[arg(value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// Where the report of several runs is written [default: RESULTS/study-<newest run>-<hash of all>]
    ///
    /// Of one run it is a report like that of several, beside the one in the run's own folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(crate) results: PathBuf,
}

/// Arguments of `benchd compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The run that is compared with: run id, folder, or `latest`
    pub(crate) base: String,
    /// The run that is compared: run id, folder, or `latest`
    pub(crate) new: String,
    /// End with code 5 where a figure is certainly worse by more than this (`5%`), or requests fail that did not
    ///
    /// Certainly: its 95 % interval leaves "no change" out. A cell that the new run was to measure and has not counts
    /// too.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) fail_on_regression: Option<Threshold>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = CompareFormat::Text)]
    pub(crate) format: CompareFormat,
    /// Compare only a part: `framework=vllm,scenario=korean`; may be given several times
    #[arg(long, value_name = "KEY=NAME,…")]
    pub(crate) only: Vec<String>,
    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(crate) results: PathBuf,
}

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompareFormat {
    /// Aligned columns
    Text,
    /// Tables for a page or a chat
    Markdown,
    /// For programs; its schema: `benchd schema --of compare`
    Json,
}

/// A change that is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold(f64);

impl Threshold {
    /// As a share: 0.05 for `5%`.
    pub(crate) fn share(self) -> f64 {
        self.0
    }
}

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text
            .strip_suffix('%')
            .ok_or_else(|| format!("`{text}` is no percentage; write `{text}%`"))?;
        match percent.trim().parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Self(value / 100.0)),
            _ => Err("write a percentage from 0 on, for example `5%`".to_owned()),
        }
    }
}

/// Arguments of `benchd selfcheck`.
#[derive(Debug, Args)]
pub(crate) struct SelfcheckArgs {
    /// Numbers of streams, up to 20000 [default: 1,8,16,32,64,256,1000; with --quick 1,16,64,256]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) streams: Vec<u32>,
    /// Take a few seconds instead of about 40: fewer streams and samples
    #[arg(long)]
    pub(crate) quick: bool,
    /// Send all streams' tokens at about the same moment, as from one step of a batch, instead of spread over the gap
    #[arg(long)]
    pub(crate) burst: bool,
    /// Leave out the search for the largest event rate
    #[arg(long)]
    pub(crate) no_rate: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the result is stored
    #[arg(long, value_name = "FILE", default_value = "results/selfcheck.json")]
    pub(crate) output: PathBuf,
}

/// Arguments of `benchd schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// What the schema is of
    #[arg(long, value_enum, default_value_t = benchd_report::SchemaOf::Plan)]
    pub(crate) of: benchd_report::SchemaOf,
}

/// Arguments of `benchd env`.
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// The plan, a YAML file
    pub(crate) plan: PathBuf,
    /// Fetch and make nothing: only say what is missing
    #[arg(long)]
    pub(crate) offline: bool,
    /// Leave models alone: make venvs and binaries only
    #[arg(long)]
    pub(crate) no_models: bool,
    /// Then start each lane's server once, so that what it compiles and fetches at its first start is there
    ///
    /// Needs the GPU to itself for some minutes, and says how long each start took.
    #[arg(long, conflicts_with = "offline")]
    pub(crate) warm: bool,
}
