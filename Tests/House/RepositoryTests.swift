import Testing

/// The rules of STYLE.md, held against this repository.
@Suite("the repository keeps its own rules")
struct RepositoryTests {
  let repository = Repository.current

  /// An empty walk would let every rule pass.
  @Test("the walk sees the sources, the tests and the files at the top")
  func walkSeesFiles() {
    let paths = Set(repository.files.map(\.path))
    #expect(paths.contains("Package.swift"))
    #expect(paths.contains("Makefile"))
    #expect(paths.contains("Tests/House/RepositoryTests.swift"))
    #expect(repository.files.contains { $0.path.hasPrefix("Sources/EngramCore/") })
    #expect(!paths.contains { $0.hasPrefix(".build") || $0.hasPrefix(".git/") })
  }

  @Test("files, functions and lines stay within their lengths")
  func lengths() {
    expectNone(TextRules.fileLength)
    expectNone(TextRules.functionLength)
    expectNone(TextRules.lineLength)
  }

  @Test("nothing is left undone, and nothing crashes without a reason")
  func bannedWords() { expectNone(TextRules.bannedWords) }

  @Test("every @unchecked carries its reason")
  func uncheckedSendable() { expectNone(TextRules.uncheckedSendable) }

  @Test("no value is taken by force")
  func forcedValues() { expectNone(TextRules.forcedValues) }

  @Test("SQL stays in the two stores")
  func straySQL() { expectNone(TextRules.straySQL) }

  @Test("file names say what is inside")
  func fileNames() { expectNone(TextRules.fileNames) }

  @Test("no file names a path of the machine it was written on")
  func machinePaths() { expectNone(TextRules.machinePaths) }

  @Test("every relative link of a Markdown file leads to a file")
  func deadLinks() {
    expectNone { TextRules.deadLinks($0, exists: repository.contains) }
  }

  @Test("a library with an owner is imported by its owner alone")
  func foreignImports() { expectNone(ArrowRules.foreignImports) }

  @Test("every import is declared by the very target that uses it")
  func undeclaredImports() throws {
    let manifest = try manifest()
    expectNone { ArrowRules.undeclaredImports($0, manifest) }
  }

  @Test("the arrows between targets point down only")
  func arrows() throws {
    let manifest = try manifest()
    #expect(manifest.targets.count > 20)
    #expect(manifest.closure(of: "engram-node").contains("EngramStore"))
    #expect(ArrowRules.cycles(manifest) == [])
    #expect(ArrowRules.leavesWithArrows(manifest) == [])
    #expect(ArrowRules.forbiddenArrows(manifest) == [])
    #expect(ArrowRules.testCodeInProducts(manifest) == [])
  }

  private func manifest() throws -> PackageManifest {
    let file = try #require(repository.files.first { $0.path == "Package.swift" })
    return try PackageManifest(file.text)
  }

  private func expectNone(
    _ rule: (RepositoryFile) -> [Finding], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let findings = repository.files.flatMap(rule)
    let report = findings.map(\.description).joined(separator: "\n")
    #expect(findings.isEmpty, "\(report)", sourceLocation: sourceLocation)
  }
}
