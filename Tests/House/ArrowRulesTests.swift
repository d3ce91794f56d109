import Testing

/// Controls for the rules on arrows, over small manifests in the form of ours.
@Suite("each rule on arrows reports a breach")
struct ArrowRulesTests {
  private func manifest(_ targets: String) throws -> PackageManifest {
    try PackageManifest(
      """
      let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
      func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
        .target(name: name, dependencies: dependencies)
      }
      let package = Package(targets: [
        \(targets)
      ])
      """)
  }

  @Test("targets are read in every form that the manifest uses")
  func reading() throws {
    let manifest = try manifest(
      """
      // module("Gone", []),
      module("A", []), module("B", ["A", nioCore]),
      .executableTarget(
        name: "c", dependencies: ["B", .product(name: "P", package: "p")], path: "Demo"),
      tests("A", ["A"], exclude: ["x"]),
      """)
    #expect(manifest.targets.map(\.name) == ["A", "B", "c", "ATests"])
    #expect(manifest.target(named: "B")?.dependencies == ["A", "NIOCore"])
    #expect(manifest.target(named: "c")?.dependencies == ["B", "P"])
    #expect(manifest.target(holding: "Tests/A/X.swift")?.name == "ATests")
    #expect(manifest.target(holding: "Demo/X.swift")?.name == "c")
    #expect(manifest.closure(of: "c") == ["A", "B", "P", "NIOCore"])
  }

  @Test("a form that is not understood is an error, not a gap")
  func unreadable() {
    #expect(throws: PackageManifest.Unreadable.self) { try manifest("module(\"A\", shared + [\"B\"])") }
    #expect(throws: PackageManifest.Unreadable.self) { try manifest("module(\"A\", [unknown])") }
  }

  @Test("an import that another target declares is still undeclared here")
  func undeclaredImport() throws {
    let manifest = try manifest("module(\"A\", [nioCore]), module(\"B\", [\"A\"])")
    let text = "import Foundation\nimport A\n@testable package import struct NIOCore.ByteBuffer\n"
    let inB = RepositoryFile(path: "Sources/B/x.swift", text: text)
    #expect(ArrowRules.undeclaredImports(inB, manifest).map(\.line) == [3])
    let inA = RepositoryFile(path: "Sources/A/x.swift", text: "// import B\npackage import NIOCore\n")
    #expect(ArrowRules.undeclaredImports(inA, manifest).isEmpty)
    let nowhere = RepositoryFile(path: "Sources/C/x.swift", text: "")
    #expect(ArrowRules.undeclaredImports(nowhere, manifest).count == 1)
  }

  @Test(
    "a library with an owner is reported elsewhere, and not in its owner's tests",
    arguments: ["COpenSSL", "CSodium", "CZstd", "GRDB", "TOMLKit"])
  func foreignImport(module: String) throws {
    let text = "internal import \(module)\n"
    #expect(
      ArrowRules.foreignImports(RepositoryFile(path: "Sources/EngramNode/x.swift", text: text)).count == 1)
    let owner = try #require(ArrowRules.owners[module]?.sorted().first)
    #expect(ArrowRules.foreignImports(RepositoryFile(path: "Tests/\(owner)/x.swift", text: text)).isEmpty)
  }

  @Test("a node that reaches the sealing module, however far away, is reported")
  func forbiddenArrow() throws {
    let manifest = try manifest(
      """
      module("EngramSealing", []), module("Between", ["EngramSealing"]), module("engram-node", ["Between"])
      """)
    #expect(ArrowRules.forbiddenArrows(manifest).count == 1)
  }

  @Test("a leaf with an arrow, a cycle, and test code in a product are reported")
  func shape() throws {
    #expect(
      ArrowRules.leavesWithArrows(try manifest("module(\"A\", []), module(\"EngramCore\", [\"A\"])")).count
        == 1)
    #expect(ArrowRules.cycles(try manifest("module(\"A\", [\"B\"]), module(\"B\", [\"A\"])")).count == 2)
    #expect(ArrowRules.testCodeInProducts(try manifest("module(\"A\", [\"TestSupport\"])")).count == 1)
    #expect(ArrowRules.testCodeInProducts(try manifest("tests(\"A\", [\"TestSupport\"])")).isEmpty)
  }
}
