// swift-tools-version: 6.1
import Foundation
import PackageDescription

// llama.cpp is installed by Deploy/setup into .deps/llama. A fitting one found by pkg-config is recorded there as a
// link, so this manifest looks in one place only.
let llamaPrefix = Context.packageDirectory + "/.deps/llama"
let llamaInclude = llamaPrefix + "/include"

/// Headers of llama.cpp for a Swift target that reaches `CLlama` or `CGGML`, also through other modules: an optimised build
/// looks into those, and would compile the C module again without finding its headers where they have changed.
let llamaHeaders: [SwiftSetting] = [.unsafeFlags(["-Xcc", "-I\(llamaInclude)"])]
/// Headers for our own C and C++ targets on top of llama.cpp.
let llamaCHeaders: [CSetting] = [.unsafeFlags(["-I\(llamaInclude)"])]
let llamaCXXHeaders: [CXXSetting] = [
  .unsafeFlags(["-I\(llamaInclude)", "-I\(llamaInclude)/common", "-I\(llamaInclude)/common/vendor"])
]
let llamaLibraries: [LinkerSetting] = [
  .unsafeFlags(["-L\(llamaPrefix)/lib", "-Xlinker", "-rpath=\(llamaPrefix)/lib"])
]

let strict: [SwiftSetting] = [
  .enableUpcomingFeature("InternalImportsByDefault"), .enableUpcomingFeature("ExistentialAny"),
]

/// Tests see what their modules import internally, so all of them need llama.cpp's headers.
func tests(_ name: String, of modules: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: modules, swiftSettings: strict + llamaHeaders)
}

let package = Package(
  name: "fusionroute",
  platforms: [.macOS(.v15)],
  products: [.executable(name: "fusionroute", targets: ["fusionroute"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
    .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
    // Under Hummingbird; the gateway's own channel handlers speak to them.
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", exact: "1.35.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
    .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
  ],
  targets: [
    // System libraries.
    .systemLibrary(name: "CSodium", providers: [.apt(["libsodium-dev"]), .brew(["libsodium"])]),
    .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"]), .brew(["zeromq"])]),
    .systemLibrary(name: "CProtobufC", providers: [.apt(["libprotobuf-c-dev"]), .brew(["protobuf-c"])]),
    .systemLibrary(name: "CGGML"),
    .systemLibrary(name: "CLlama"),

    // C and C++ of our own.
    .target(name: "CWire", dependencies: ["CProtobufC"], linkerSettings: [.linkedLibrary("protobuf-c")]),
    .target(
      name: "CLlamaExtras", cSettings: llamaCHeaders, cxxSettings: llamaCXXHeaders,
      linkerSettings: llamaLibraries + [.linkedLibrary("llama-common"), .linkedLibrary("llama")]),
    .target(
      name: "Kernels", cSettings: [.unsafeFlags(["-O3", "-ffp-contract=off", "-fno-math-errno"])]),

    // The page's files, embedded. They lie with the gateway.
    .target(name: "PageFiles"),
    .target(
      name: "ModelKernels", cSettings: [.unsafeFlags(["-O3", "-ffp-contract=off", "-fno-math-errno"])]),

    // Matrix products, the graph rewrite and row-wise kernels of training, on ggml.
    .target(
      name: "TrainingKernels",
      cSettings: llamaCHeaders + [
        .unsafeFlags(["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"])
      ],
      linkerSettings: llamaLibraries + [
        .linkedLibrary("ggml"), .linkedLibrary("ggml-base"), .linkedLibrary("ggml-cpu"),
      ]),

    // Swift, bottom up.
    .target(
      name: "Core", dependencies: ["CSodium", .product(name: "Logging", package: "swift-log")], swiftSettings: strict),
    .target(name: "Fusion", dependencies: ["Core", "Kernels"], swiftSettings: strict),
    .target(name: "Wire", dependencies: ["Core", "CWire"], swiftSettings: strict),
    .target(
      name: "Messaging",
      dependencies: ["Core", "CZeroMQ", .product(name: "Logging", package: "swift-log")], swiftSettings: strict),
    .target(
      name: "Inference",
      dependencies: ["Core", "CLlama", "CLlamaExtras", .product(name: "Logging", package: "swift-log")],
      swiftSettings: strict + llamaHeaders, linkerSettings: llamaLibraries),
    .target(
      name: "ModelFiles", dependencies: ["Core", "CGGML", "ModelKernels"], swiftSettings: strict + llamaHeaders,
      linkerSettings: llamaLibraries),
    .target(
      name: "Training", dependencies: ["Core", "ModelFiles", "Inference", "TrainingKernels"],
      swiftSettings: strict + llamaHeaders),
    // What `eval` decides and computes: methods, grading protocol, statistics, the report.
    .target(name: "Evaluation", dependencies: ["Core"], swiftSettings: strict),
    .target(
      name: "Worker",
      dependencies: [
        "Core", "Fusion", "Wire", "Messaging", "Inference", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict + llamaHeaders),
    .target(
      name: "Coordinator",
      dependencies: [
        "Core", "Fusion", "Wire", "Messaging", "Inference", "ModelFiles",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "HeapModule", package: "swift-collections"),
      ], swiftSettings: strict + llamaHeaders),
    .target(
      name: "Journal",
      dependencies: [
        "Core", .product(name: "GRDB", package: "GRDB.swift"), .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .target(
      name: "Launch",
      dependencies: ["Core", "Messaging", .product(name: "Logging", package: "swift-log"), "Yams"],
      swiftSettings: strict),
    .target(
      name: "Gateway",
      dependencies: [
        "Core", "Fusion", "Inference", "Coordinator", "Journal", "PageFiles",
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "HummingbirdTLS", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "Logging", package: "swift-log"),
      ], exclude: ["Page/Site"], swiftSettings: strict + llamaHeaders),
    .executableTarget(
      name: "fusionroute",
      dependencies: [
        "Core", "Fusion", "Inference", "ModelFiles", "Worker", "Coordinator", "Launch", "Messaging", "Wire", "Gateway",
        "Training", "Evaluation", "Yams",
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict + llamaHeaders),

    // Tests.
    .executableTarget(
      name: "llama-oracle", path: "Tests/LlamaOracle", cSettings: llamaCHeaders,
      linkerSettings: llamaLibraries + [
        .linkedLibrary("llama"), .linkedLibrary("ggml"), .linkedLibrary("ggml-base"), .linkedLibrary("ggml-cpu"),
      ]),
    .target(
      name: "TestSupport",
      dependencies: [
        "Core", "Fusion", "Inference", "ModelFiles", "Worker", "Coordinator",
        .product(name: "Logging", package: "swift-log"),
      ], path: "Tests/TestSupport", swiftSettings: strict + llamaHeaders),
    .target(
      name: "FuzzSupport",
      dependencies: [
        "Core", "Fusion", "Wire", "Messaging", "Inference", "ModelFiles", "Worker", "Coordinator", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ], path: "Tests/FuzzSupport", swiftSettings: strict + llamaHeaders),
    .executableTarget(
      name: "fusionroute-fuzz", dependencies: ["FuzzSupport"], path: "Tests/Fuzz", swiftSettings: strict + llamaHeaders),
    tests("CoreTests", of: ["Core"]),
    tests("FusionTests", of: ["Fusion", "Core"]),
    tests("WireTests", of: ["Wire", "Core", "FuzzSupport"]),
    tests("MessagingTests", of: ["Messaging", "Core"]),
    tests("InferenceTests", of: ["Inference", "ModelFiles", "Core", "llama-oracle"]),
    tests("ModelFilesTests", of: ["ModelFiles", "Core", "llama-oracle", "TestSupport"]),
    tests("TrainingTests", of: ["Training", "ModelFiles", "Inference", "Core", "llama-oracle", "TestSupport"]),
    tests("EvaluationTests", of: ["Evaluation", "Core"]),
    tests("CoordinatorTests", of: ["Coordinator", "Core"]),
    tests(
      "WorkerTests",
      of: ["Worker", "Core", "Wire", "Inference", .product(name: "Logging", package: "swift-log")]),
    tests("LaunchTests", of: ["Launch", "Core", "Yams"]),
    tests("JournalTests", of: ["Journal", "Core", .product(name: "Logging", package: "swift-log")]),
    tests(
      "GatewayTests",
      of: [
        "Gateway", "Core", "Fusion", "Coordinator", "Inference", "Journal", "ModelFiles", "TestSupport", "llama-oracle",
        "fusionroute",
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ]),
    tests(
      "CommandTests",
      of: ["fusionroute", "Core", "Fusion", "Coordinator", "Launch", "ModelFiles", "Inference", "Evaluation"]),
    tests(
      "RuntimeTests",
      of: [
        "Core", "Fusion", "Wire", "Messaging", "Inference", "ModelFiles", "Worker", "Coordinator", "Launch",
        "fusionroute",
        "llama-oracle", "TestSupport", "FuzzSupport",
      ]),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11,
  cxxLanguageStandard: .cxx17
)
