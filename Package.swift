// swift-tools-version:6.2
import PackageDescription

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("ExistentialAny"),
  .treatAllWarnings(as: .error),
]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket = Target.Dependency.product(name: "NIOWebSocket", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioHTTPTypesHTTP1 = Target.Dependency.product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let grdbSQLite = Target.Dependency.product(name: "GRDBSQLite", package: "GRDB.swift")
let mustache = Target.Dependency.product(name: "Mustache", package: "swift-mustache")
let toml = Target.Dependency.product(name: "TOMLKit", package: "TOMLKit")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

func module(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .target(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .testTarget(
    name: name + "Tests", dependencies: dependencies, path: "Tests/" + name, exclude: exclude,
    swiftSettings: strict)
}

let package = Package(
  name: "engram",
  products: [
    .library(name: "EngramClient", targets: ["EngramClient"]),
    .library(name: "EngramTLS", targets: ["EngramTLS"]),
    .executable(name: "engram-node", targets: ["engram-node"]),
    .executable(name: "engram", targets: ["engram"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.35.2"),
    .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
    .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.1"),
    .package(url: "https://github.com/hummingbird-project/swift-mustache.git", from: "2.1.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
    .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
    .package(url: "https://github.com/LebJe/TOMLKit.git", from: "0.6.0"),
  ],
  targets: [
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),

    // Arrows point down only; the house test checks every import against these lists.
    module("EngramCore", []),
    module("EngramCrypto", ["EngramCore", "CSodium"]),
    module("EngramSealing", ["EngramCore", "EngramCrypto", "CSodium", "CZstd"]),
    module("EngramTLS", ["COpenSSL", nioCore, nioTLS]),
    module("EngramStore", ["EngramCore", "EngramCrypto", grdb, grdbSQLite], exclude: ["schema.sql"]),
    module("EngramConfig", ["EngramCore", toml]),
    module("EngramWire", ["EngramCore", "EngramTLS", nioCore, nioPosix, nioTLS, nioHTTP1, nioWebSocket]),
    module(
      "EngramClientStore", ["EngramCore", "EngramCrypto", "EngramSealing", grdb], exclude: ["schema.sql"]),
    module("EngramNode", ["EngramCore", "EngramCrypto", "EngramStore", logging]),
    module(
      "EngramFederation",
      ["EngramCore", "EngramCrypto", "EngramNode", "EngramTLS", nioCore, nioPosix, nioTLS, logging]),
    module(
      "EngramHTTP",
      [
        "EngramCore", "EngramCrypto", "EngramNode", "EngramTLS", nioCore, nioPosix, nioTLS, nioHTTP1,
        nioWebSocket,
        nioHTTPTypes, nioHTTPTypesHTTP1, hummingbird, hummingbirdCore, httpTypes, logging,
      ]),
    module(
      "EngramClient",
      [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramClientStore", "EngramWire", "EngramTLS",
        mustache,
      ]),
    .executableTarget(
      name: "engram-node",
      dependencies: [
        "EngramCore", "EngramCrypto", "EngramConfig", "EngramStore", "EngramNode", "EngramFederation",
        "EngramHTTP",
        "EngramTLS", "EngramWire", argumentParser, logging, unixSignals, nioCore, nioPosix,
      ], swiftSettings: strict),
    .executableTarget(
      name: "engram",
      dependencies: ["EngramCore", "EngramCrypto", "EngramClient", argumentParser], swiftSettings: strict),
    .executableTarget(
      name: "engram-demo",
      dependencies: ["EngramCore", "EngramClient", argumentParser], path: "Demo", swiftSettings: strict),
    .executableTarget(
      name: "engram-bench",
      dependencies: [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramClient", "EngramWire", "EngramTLS",
        argumentParser,
        nioCore, nioPosix,
      ], path: "Benchmarks/EngramBench", swiftSettings: strict),

    .target(
      name: "TestSupport",
      dependencies: [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramWire", "EngramTLS", nioCore, nioPosix,
      ],
      path: "Tests/Support", swiftSettings: strict),
    tests("EngramCore", ["EngramCore", "TestSupport"]),
    tests("EngramCrypto", ["EngramCore", "EngramCrypto", "TestSupport"]),
    tests("EngramSealing", ["EngramCore", "EngramCrypto", "EngramSealing", "TestSupport"]),
    tests("EngramTLS", ["EngramTLS", nioCore, nioPosix, nioTLS, nioEmbedded]),
    tests("EngramStore", ["EngramCore", "EngramCrypto", "EngramStore", "TestSupport", grdb]),
    tests("EngramConfig", ["EngramCore", "EngramConfig"]),
    tests("EngramWire", ["EngramCore", "EngramTLS", "EngramWire", nioCore, nioPosix]),
    tests(
      "EngramClientStore",
      ["EngramCore", "EngramCrypto", "EngramSealing", "EngramClientStore", "TestSupport"]),
    tests(
      "EngramNode",
      ["EngramCore", "EngramCrypto", "EngramSealing", "EngramStore", "EngramNode", "TestSupport", logging]),
    tests(
      "EngramFederation",
      [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramStore", "EngramNode", "EngramFederation",
        "EngramTLS",
        "TestSupport", nioCore, nioPosix, nioTLS, nioEmbedded, logging,
      ]),
    tests(
      "EngramHTTP",
      [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramStore", "EngramNode", "EngramHTTP", "EngramTLS",
        "TestSupport", nioCore, nioPosix, nioTLS, nioEmbedded, nioHTTP1, nioWebSocket, httpTypes,
        hummingbirdCore, logging,
      ]),
    tests(
      "EngramClient",
      [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramClientStore", "EngramClient", "engram",
        "TestSupport",
      ]),
    tests("House", []),
    tests(
      "Scenarios",
      [
        "EngramCore", "EngramCrypto", "EngramSealing", "EngramStore", "EngramClient", "EngramWire",
        "EngramTLS", "TestSupport", nioCore, nioPosix, nioTLS,
      ]),
  ]
)
