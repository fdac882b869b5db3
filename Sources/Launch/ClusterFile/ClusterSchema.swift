/// Every key of the cluster file.
public enum ClusterSchema {
  public static let root: [Setting] = [
    Setting("router", .section(router), .required, "The model that picks the expert and adds its own logits."),
    Setting(
      "experts", .named(expert), .required,
      "The experts by name: letters, digits, `.`, `_` and `-`, at most 64, first a letter or digit, not `router`; the "
        + "names stand in the routing head."),
    Setting("hosts", .list(host), .absent("everything runs on this machine"), "The machines that replicas run on."),
    Setting("listen", .section(listen), .absent("defaults below"), "Where the coordinator is reached."),
    Setting("gateway", .section(gateway), .absent("defaults below"), "How the HTTP service is guarded and bounded."),
    Setting("decoding", .section(decoding), .absent("defaults below"), "How tokens are decided."),
    Setting(
      "on_expert_loss", .choice(ClusterFile.ExpertLoss.allCases.map(\.rawValue)), .value("fail"),
      "What a request does when an expert has had no replica for `expert_wait`: end with an error, go on with the "
        + "router's next best expert, or go on with the router alone. Degraded tokens are marked in the answer."),
    Setting(
      "expert_wait", .duration, .value("30s"),
      "How long a request waits for an expert that has no replica left, before `on_expert_loss` applies."),
    Setting(
      "start_wait", .duration, .value("5min"),
      "How long `run` and other commands that start a cluster to use it themselves wait for every expert to have a "
        + "replica; `up` and `coordinator` do not wait."),
    Setting(
      "faults", .section(faults), .absent("defaults below"), "When a worker counts as lost or slow, and what follows."),
    Setting("supervision", .section(supervision), .absent("defaults below"), "How worker processes are kept running."),
    Setting(
      "security", .section(security), .absent("loopback and ipc endpoints only"),
      "Keys for endpoints beyond this machine."),
  ]

  static let engine: [Setting] = [
    Setting("lora", .file, .absent("none"), "A LoRA adapter (GGUF) put on top of the model."),
    Setting("lora_scale", .number(-100...100), .value("1"), "What the adapter's weights are multiplied by."),
    Setting(
      "threads", .integer(1...1024), .value("1"),
      "Computing threads. On a machine, either every process has one thread or their sum stays within the cores: "
        + "processes of several threads that share cores slow each other down by an order of magnitude."),
    Setting("gpu_layers", .integer(0...100_000), .value("0"), "Layers computed on a GPU."),
    Setting(
      "context", .integer(16...262_144), .value("4096"), "Tokens per sequence, prompt and answer together."),
    Setting(
      "slots", .integer(1...256), .value("4"),
      "Sequences held in the KV cache at once. The cache has slots × context entries."),
    Setting(
      "kv", .choice(ClusterFile.KVType.allCases.map(\.rawValue)), .value("auto"),
      "Number format of the KV cache; `auto` is f32 for F32 weights and f16 otherwise."),
  ]

  static let router: [Setting] =
    [
      Setting("model", .file, .required, "The router's model (GGUF). Its tokeniser and chat template are used."),
      Setting("head", .file, .required, "The routing head (GGUF of architecture `fusionroute-head`)."),
    ] + engine

  static let expert: [Setting] =
    [Setting("model", .file, .required, "The expert's model (GGUF), with the router's vocabulary.")] + engine + [
      Setting("replicas", .integer(1...1024), .value("1"), "How many processes serve this expert."),
      Setting(
        "host", .names, .absent("any host"),
        "The host or hosts that its replicas may run on; `fusionroute plan` shows where each goes."),
    ]

  static let host: [Setting] = [
    Setting("name", .text, .required, "The name that `fusionroute workers --host` and `experts.*.host` use."),
    Setting(
      "address", .text, .absent("required by `manual` and `ssh`"),
      "Name or IP address of the machine. Slurm and Kubernetes choose the machine themselves."),
    Setting(
      "launcher", .choice(ClusterFile.Launcher.allCases.map(\.rawValue)), .value("manual"),
      "How `up` starts `fusionroute workers` there. `local`: this is the machine that `up` runs on; `ssh`: over ssh; "
        + "`slurm`: as a job, for which this entry is one task; `kubernetes`: as Deployments, for which this entry is "
        + "one namespace; `manual`: not at all, you or a service manager does (on a loopback address it is as `local`)."
    ),
    Setting(
      "memory", .bytes, .absent("not limited"),
      "Memory that replicas on it, and on the coordinator's machine the router, may use together."),
    Setting(
      "threads", .integer(1...4096), .absent("not limited"),
      "Its cores. Processes of several threads get cores of their own; those of one thread may outnumber the rest."),
    Setting(
      "program", .text, .absent("as here"),
      "Absolute path of `fusionroute` there. In Kubernetes the image has it."),
    Setting(
      "cluster", .text, .absent("as here"),
      "Absolute path of the cluster file there; relative paths in it are relative to it, there too."),
    Setting("ssh", .section(ssh), .absent("as ssh's configuration says"), "For the launcher `ssh`."),
    Setting("slurm", .section(slurm), .absent("as the site's defaults say"), "For the launcher `slurm`."),
    Setting("kubernetes", .section(kubernetes), .absent("defaults below"), "For the launcher `kubernetes`."),
  ]

  static let ssh: [Setting] = [
    Setting("user", .text, .absent("ssh's"), "Who to log in as."),
    Setting("port", .integer(1...65_535), .absent("ssh's"), "The port of its ssh server."),
    Setting(
      "identity", .file, .absent("ssh's"),
      "The private key to log in with. No agent and no passphrase is asked for."),
    Setting("known_hosts", .file, .absent("ssh's"), "The file with the host's key. An unknown host is refused."),
  ]

  static let slurm: [Setting] = [
    Setting("partition", .text, .absent("the default one"), "The partition of the job."),
    Setting("account", .text, .absent("the user's"), "The account of the job."),
    Setting(
      "options", .names, .absent("none"),
      "More options of `sbatch`, one or a list: `--exclusive`, `--time=12:00:00`, `--gres=gpu:1`."),
  ]

  static let kubernetes: [Setting] = [
    Setting("namespace", .text, .value("default"), "The namespace of all objects."),
    Setting("image", .text, .value("fusionroute:latest"), "The image of the containers."),
    Setting(
      "volume", .text, .value("fusionroute-models"),
      "The PersistentVolumeClaim that holds the directory of the models, which must lie in a directory beside the "
        + "cluster file."),
    Setting(
      "maximum_replicas", .integer(1...1024), .absent("no autoscaling"),
      "Up to how many replicas of an expert the queue may call for (HorizontalPodAutoscaler)."),
  ]

  static let listen: [Setting] = [
    Setting(
      "http", .socketAddress, .value("127.0.0.1:8080"),
      "Where the HTTP service of `up` and `coordinator` listens; port `*` lets the system choose. Beyond loopback, "
        + "`gateway.api_keys` is needed."),
    Setting(
      "workers", .endpoint, .absent("a private ipc socket"),
      "Where workers connect. Beyond loopback and ipc, `security.keys` is needed."),
    Setting(
      "advertise", .endpoint, .absent("the same as `workers`"),
      "The endpoint that workers are told, where it differs from the one bound (wildcard addresses, NAT)."),
  ]

  static let gateway: [Setting] = [
    Setting(
      "api_keys", .file, .absent("no keys; loopback only"),
      "The API keys' hashes, made by `fusionroute keys api add`. Requests need one of the keys; changes hold at once."),
    Setting(
      "admin_keys", .names, .absent("none of the keys"),
      "Names of the API keys that may drain and scale. Without `api_keys` whoever reaches the service may."),
    Setting("tls_certificate", .file, .absent("plain HTTP"), "The certificate chain (PEM); needs `tls_key`."),
    Setting("tls_key", .file, .absent("plain HTTP"), "The certificate's private key (PEM); needs `tls_certificate`."),
    Setting(
      "allowed_origins", .origins, .absent("none but the page itself"),
      "Web pages of these origins may call the API from a browser (CORS); `*` is every page."),
    Setting(
      "allowed_hosts", .names, .absent("names of loopback"),
      "Names that a proxy in front may pass on in `Host` while the service listens on loopback only. Other names are "
        + "refused there, since a stranger's page can give its own name this machine's address."),
    Setting("max_body", .bytes, .value("8MiB"), "The largest request body."),
    Setting(
      "max_connections", .integer(1...1_000_000), .value("4096"),
      "Connections open at once; fewer where the system's limit of open files is lower."),
    Setting(
      "queue_limit", .integer(0...1_000_000), .value("1024"),
      "Requests that may wait for a slot; further ones are answered with 429 and `Retry-After`."),
    Setting(
      "client_queue_limit", .integer(0...1_000_000), .absent("half of `queue_limit`"),
      "How many of them may be one client's: one API key's, or without keys one `user`'s or address's."),
    Setting(
      "request_deadline", .duration, .absent("none"),
      "How long a request may take, from its arrival to its last token. Requests of batches have the batch's window instead."
    ),
    Setting(
      "default_max_tokens", .integer(1...4_194_304), .value("256"),
      "New tokens of a request that names no maximum."),
    Setting(
      "shutdown_grace", .duration, .value("30s"),
      "How long answers under way may go on after the end was asked for (SIGTERM, Ctrl-C)."),
    Setting(
      "request_log", .file, .absent("not written"),
      "Requests and the ids of their answers' tokens are appended to this file, for `fusionroute replay`. It holds what "
        + "people asked."),
    Setting(
      "trace", .file, .absent("not written"),
      "Spans of every request are written to this file, which Perfetto (ui.perfetto.dev) and Chrome's tracing page open."
    ),
    Setting(
      "journal", .file, .absent("no batches"),
      "An SQLite file of this coordinator's own, in which batches (`/v1/batches`) and requests with an `Idempotency-Key` "
        + "are written down before they run, so that they outlive the process. It holds what people asked."),
    Setting(
      "journal_size", .bytes, .value("4GiB"), "How large the journal may grow; nothing new is taken in beyond that."),
    Setting(
      "journal_retention", .duration, .value("720h"),
      "How long files, batches that have ended and answers to requests with an `Idempotency-Key` are kept."),
    Setting(
      "batch_concurrency", .integer(1...4096), .absent("half of the router's slots"),
      "How many requests of batches run at once. They give way to others that wait."),
  ]

  static let decoding: [Setting] = [
    Setting(
      "top_k", .integer(1...65_536), .value("32"),
      "How many of its largest logits an expert returns at first. More are fetched whenever they are needed to be "
        + "certain: the value changes the speed, never the text."),
    Setting(
      "reproducible", .flag, .value("true"),
      "The same tokens give the same bits whatever the batch, so that the text does not depend on load."),
    Setting(
      "warm", .choice(ClusterFile.Warm.allCases.map(\.rawValue)), .value("auto"),
      "Which experts read the prompt at arrival: those that have cores of their own, all, or only the selected one."),
    Setting(
      "fanout", .choice(ClusterFile.Fanout.allCases.map(\.rawValue)), .value("selected"),
      "Which experts step at each token: the selected one, also the likely next one while idle, or all."),
    Setting(
      "audit_rate", .number(0...1), .value("0.001"),
      "Share of steps for which the full row is fetched and compared with the partial one."),
  ]

  static let faults: [Setting] = [
    Setting(
      "heartbeat", .duration, .value("500ms"), "How often coordinator and workers tell each other that they live."),
    Setting(
      "silence", .duration, .value("3s"),
      "A worker that is not heard of for so long is lost; at least three heartbeats."),
    Setting(
      "hang", .duration, .value("10s"),
      "A worker that has work and computes nothing for so long, beyond what its batch may take, is lost."),
    Setting("step_timeout", .duration, .value("120s"), "A step that takes longer is given to another replica."),
    Setting(
      "hedge_share", .number(0...1), .value("0.05"),
      "A slow step is sent to a second replica too, and the first answer counts: at most for this share of the steps; "
        + "0 turns it off."),
    Setting(
      "hedge_percentile", .number(0...1), .value("0.99"),
      "A step is slow if it takes longer than this share of the steps of its size took, times `hedge_factor`."),
    Setting("hedge_factor", .number(1...1000), .value("2"), "See `hedge_percentile`."),
    Setting("hedge_after", .duration, .value("100ms"), "No step is slow before."),
  ]

  static let supervision: [Setting] = [
    Setting(
      "restarts", .integer(0...1_000_000), .value("5"),
      "How often a worker that ends by itself is started again within `window`."),
    Setting("window", .duration, .value("60s"), "The time that `restarts` counts in."),
    Setting(
      "back_off", .duration, .value("500ms"), "The wait before the first restart; it doubles up to 30 s."),
    Setting(
      "grace", .duration, .value("5s"), "How long a worker may take to stop before it is killed."),
    Setting(
      "orphan_after", .duration, .value("60s"),
      "A worker whose coordinators have all been gone for so long ends by itself."),
  ]

  static let security: [Setting] = [
    Setting("keys", .directory, .required, "The directory that `fusionroute keys` made.")
  ]
}
