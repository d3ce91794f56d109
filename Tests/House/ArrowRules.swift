import Foundation

/// Rules over the arrows between targets: what imports what, and what must never reach what.
enum ArrowRules {
  /// Modules of the toolchain, which need no declaration.
  static let toolchain: Set<String> = [
    "Dispatch", "Foundation", "FoundationEssentials", "Glibc", "Musl", "RegexBuilder", "Swift",
    "Synchronization", "Testing",
  ]

  /// The targets, beside their tests, that may name a library which everyone else has to reach through them.
  static let owners: [String: Set<String>] = [
    "COpenSSL": ["EngramTLS"],
    "CSodium": ["EngramCrypto", "EngramSealing"],
    "CZstd": ["EngramSealing"],
    "GRDB": ["EngramStore", "EngramClientStore"],
    "TOMLKit": ["EngramConfig"],
  ]

  /// What must not be reachable, at any distance: the reason why these are modules at all.
  static let forbidden: [String: Set<String>] = [
    // A node that links no opening of messages cannot read them.
    "engram-node": ["EngramSealing", "EngramClientStore", "EngramClient", "CZstd"],
    "EngramHTTP": ["EngramSealing", "EngramFederation", "EngramConfig", "TOMLKit"],
    "EngramFederation": ["EngramSealing", "EngramHTTP", "EngramConfig", "Hummingbird"],
    "EngramNode": ["EngramSealing", "NIOCore", "Hummingbird", "COpenSSL", "TOMLKit"],
    "EngramStore": ["EngramNode", "EngramSealing", "EngramTLS", "NIOCore"],
    "EngramConfig": ["EngramNode", "EngramStore", "EngramCrypto", "NIOCore"],
    "EngramWire": ["EngramSealing", "EngramNode", "EngramStore"],
    "EngramMemory": ["GRDB", "NIOCore", "EngramStore", "EngramNode"],
    "EngramCrypto": ["EngramSealing", "EngramStore", "GRDB", "NIOCore", "CZstd"],
    "EngramClient": ["EngramNode", "EngramStore", "EngramHTTP", "EngramFederation"],
    "engram": ["EngramNode", "EngramStore", "EngramHTTP", "EngramFederation"],
  ]

  /// Targets that know nothing else of ours.
  static let leaves: Set<String> = [
    "EngramCore", "EngramTLS", "COpenSSL", "CSodium", "CZstd", "CVectorKernels",
  ]

  // MARK: - Over one file

  static func imports(in file: RepositoryFile) -> [(module: String, line: Int)] {
    // Attributes and an access level may come first, the kind of a single declaration after `import`.
    let form = #/^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:\w+\s+)?import\s+(?:(?:\w+)\s+)?(\w+)/#
    let code = String(decoding: ScannedSource(file.text).code, as: UTF8.self)
    return code.split(separator: "\n", omittingEmptySubsequences: false).enumerated().compactMap {
      guard $1.contains("import"), let match = $1.firstMatch(of: form) else { return nil }
      return (String(match.1), $0 + 1)
    }
  }

  static func undeclaredImports(_ file: RepositoryFile, _ manifest: PackageManifest) -> [Finding] {
    guard file.isSwift, file.isSource, file.path != "Package.swift" else { return [] }
    guard let target = manifest.target(holding: file.path) else {
      return [Finding(path: file.path, line: 1, message: "belongs to no target of Package.swift")]
    }
    return imports(in: file).compactMap { module, line in
      guard !toolchain.contains(module), !target.dependencies.contains(module) else { return nil }
      return Finding(
        path: file.path, line: line, message: "\(target.name) imports \(module) without declaring it")
    }
  }

  static func foreignImports(_ file: RepositoryFile) -> [Finding] {
    guard file.isSwift, file.isSource, file.path != "Package.swift" else { return [] }
    return imports(in: file).compactMap { module, line in
      guard let owners = owners[module] else { return nil }
      let folders = owners.flatMap { ["Sources/\($0)/", "Tests/\($0)/"] }
      guard !folders.contains(where: file.path.hasPrefix) else { return nil }
      return Finding(
        path: file.path, line: line,
        message: "only \(owners.sorted().joined(separator: ", ")) import \(module)")
    }
  }

  // MARK: - Over the manifest

  static func forbiddenArrows(_ manifest: PackageManifest) -> [Finding] {
    forbidden.sorted { $0.key < $1.key }.flatMap { name, barred in
      manifest.closure(of: name).intersection(barred).sorted().map {
        Finding(path: "Package.swift", line: 1, message: "\(name) must never reach \($0)")
      }
    }
  }

  static func leavesWithArrows(_ manifest: PackageManifest) -> [Finding] {
    let ours = Set(manifest.targets.map(\.name)).subtracting(["COpenSSL", "CSodium", "CZstd"])
    return leaves.sorted().flatMap { leaf in
      (manifest.target(named: leaf)?.dependencies ?? []).intersection(ours).sorted().map {
        Finding(path: "Package.swift", line: 1, message: "\(leaf) is a leaf and must not know \($0)")
      }
    }
  }

  static func cycles(_ manifest: PackageManifest) -> [Finding] {
    manifest.targets.filter { manifest.closure(of: $0.name).contains($0.name) }.map {
      Finding(path: "Package.swift", line: 1, message: "\($0.name) depends on itself")
    }
  }

  /// Code that ships must not lean on code for tests.
  static func testCodeInProducts(_ manifest: PackageManifest) -> [Finding] {
    manifest.targets.filter { !$0.isTest && $0.dependencies.contains("TestSupport") }.map {
      Finding(path: "Package.swift", line: 1, message: "\($0.name) depends on TestSupport")
    }
  }
}
