// swift-tools-version:6.1

import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let nio = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioConcurrency = Target.Dependency.product(name: "NIOConcurrencyHelpers", package: "swift-nio")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")

let package = Package(
    name: "carillon",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "carillon", targets: ["carillon"]),
        .executable(name: "carillon-loadtest", targets: ["carillon-loadtest"]),
        .library(name: "CarillonClient", targets: ["CarillonClient"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.90.0"),
        .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.30.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.30.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.5.0"),
        .package(url: "https://github.com/apple/swift-crypto.git", from: "4.0.0"),
        .package(url: "https://github.com/apple/swift-http-types.git", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.2.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.5.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.8.0"),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.30.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.20.0"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache.git", from: "2.0.0"),
        .package(url: "https://github.com/vapor/jwt-kit.git", from: "5.2.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.0.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", from: "0.1.0"),
    ],
    targets: [
        // C libraries of the system.
        .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
        .systemLibrary(name: "CLibpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "CCurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CEpoll"),

        // Clients of the two servers.
        .target(
            name: "RedisClient",
            dependencies: ["CHiredis", nio, nioPosix, nioConcurrency, collections, logging, crypto, .product(name: "NIOSSL", package: "swift-nio-ssl")],
            swiftSettings: settings
        ),
        .target(name: "PostgresClient", dependencies: ["CLibpq", collections, logging], swiftSettings: settings),

        // The domain.
        .target(name: "NotificationCore", dependencies: [.product(name: "Mustache", package: "swift-mustache")], swiftSettings: settings),
        .target(
            name: "NotificationStore",
            dependencies: ["PostgresClient", "NotificationCore", crypto, nioConcurrency, collections, logging],
            resources: [.copy("Migrations")],
            swiftSettings: settings
        ),
        .target(
            name: "NotificationBus",
            dependencies: ["RedisClient", "NotificationCore", "NotificationStore", nio, crypto, logging],
            swiftSettings: settings
        ),
        .target(
            name: "Authentication",
            dependencies: [
                .product(name: "JWTKit", package: "jwt-kit"), .product(name: "AsyncHTTPClient", package: "async-http-client"),
                nio, nioHTTP1, nioConcurrency, crypto, logging,
            ],
            swiftSettings: settings
        ),

        // The port and the roles.
        .target(
            name: "Gateway",
            dependencies: [
                "Authentication", "NotificationCore", "NotificationStore", "NotificationBus", nio, nioPosix, nioHTTP1, nioConcurrency, crypto, logging, metrics, hummingbird,
                httpTypes,
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"), .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "Edge",
            dependencies: [
                "Gateway", "Authentication", "NotificationCore", "NotificationStore", "NotificationBus", "PostgresClient", nio, nioHTTP1, crypto, logging,
            ],
            swiftSettings: settings
        ),
        .target(
            name: "API",
            dependencies: [
                "Gateway", "Authentication", "NotificationCore", "NotificationStore", "NotificationBus", "RedisClient", nio, nioHTTP1, logging, hummingbird,
                httpTypes, crypto,
            ],
            swiftSettings: settings
        ),
        .target(
            name: "Delivery",
            dependencies: ["CCurl", "NotificationCore", "NotificationStore", "NotificationBus", "PostgresClient", "RedisClient", nio, collections, crypto, logging],
            swiftSettings: settings
        ),

        .target(name: "WebClient", resources: [.copy("Resources")], swiftSettings: settings),

        // For applications; it shares no code with the server.
        .target(
            name: "CarillonClient",
            dependencies: [nio, nioPosix, nioHTTP1, .product(name: "AsyncHTTPClient", package: "async-http-client")],
            swiftSettings: settings
        ),

        // Programs.
        .executableTarget(
            name: "carillon",
            dependencies: [
                "API", "Edge", "Delivery", "WebClient", "Gateway", "Authentication", "NotificationStore", "NotificationBus", "NotificationCore",
                "PostgresClient", "RedisClient", nio, nioPosix, nioHTTP1, logging, metrics, arguments, lifecycle, hummingbird,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"), .product(name: "Yams", package: "Yams"),
            ],
            resources: [.process("Resources")],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "carillon-loadtest",
            dependencies: [
                "CEpoll", nio, nioPosix, nioHTTP1, nioConcurrency, arguments, crypto, logging, .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "HeapModule", package: "swift-collections"), .product(name: "Yams", package: "Yams"),
            ],
            path: "loadtest",
            exclude: ["README.md", "benchmarks", "rivals"],
            swiftSettings: settings
        ),

        // Tests.
        .target(name: "TestServers", path: "Tests/TestServers", swiftSettings: settings),
        .target(name: "SeededRandom", path: "Tests/SeededRandom", swiftSettings: settings),
        .testTarget(name: "PostgresClientTests", dependencies: ["PostgresClient", "TestServers", logging], swiftSettings: settings),
        .testTarget(
            name: "GatewayTests", dependencies: ["Gateway", "NotificationCore", nio, nioPosix, nioHTTP1, logging, hummingbird],
            swiftSettings: settings
        ),
        .testTarget(
            name: "APITests",
            dependencies: [
                "API", "Gateway", "Authentication", "NotificationCore", "NotificationStore", "NotificationBus", "PostgresClient", "RedisClient",
                "TestServers", nio, nioPosix, nioHTTP1, logging, hummingbird,
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "CarillonClientTests",
            dependencies: ["CarillonClient", nio, nioPosix, nioHTTP1, .product(name: "AsyncHTTPClient", package: "async-http-client")],
            swiftSettings: settings
        ),
        .testTarget(
            name: "NodeTests",
            dependencies: [
                "carillon", "CarillonClient", "Gateway", "Authentication", "NotificationCore", "NotificationStore", "PostgresClient", "TestServers", nio, nioHTTP1, logging, lifecycle,
                .product(name: "AsyncHTTPClient", package: "async-http-client"), .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "NotificationStoreTests",
            dependencies: ["NotificationStore", "NotificationCore", "PostgresClient", "SeededRandom", "TestServers", logging],
            swiftSettings: settings
        ),
        .testTarget(name: "NotificationBusTests", dependencies: ["NotificationBus", "NotificationStore", "NotificationCore"], swiftSettings: settings),
        .testTarget(
            name: "DeliveryTests",
            dependencies: ["Delivery", "NotificationCore", "NotificationStore", "PostgresClient", "SeededRandom", "TestServers", nio, nioPosix, nioHTTP1, logging],
            swiftSettings: settings
        ),
        .testTarget(name: "EdgeTests", dependencies: ["Edge", "Gateway", "NotificationBus", "NotificationCore", nio, nioHTTP1], swiftSettings: settings),
        .testTarget(name: "NotificationCoreTests", dependencies: ["NotificationCore", "SeededRandom"], swiftSettings: settings),
        .testTarget(
            name: "RedisClientTests", dependencies: ["RedisClient", "SeededRandom", "TestServers", nio, nioPosix, nioEmbedded, nioConcurrency, logging], swiftSettings: settings
        ),
        .testTarget(
            name: "AuthenticationTests",
            dependencies: [
                "Authentication", "SeededRandom", .product(name: "JWTKit", package: "jwt-kit"), nio, nioPosix, nioHTTP1, nioConcurrency, crypto,
                .product(name: "CryptoExtras", package: "swift-crypto"), logging,
            ],
            swiftSettings: settings
        ),
        .testTarget(name: "CarillonTests", dependencies: ["carillon", "NotificationCore", logging, metrics], swiftSettings: settings),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "carillon", "API", "Edge", "Gateway", "Authentication", "NotificationCore", "NotificationStore", "RedisClient", "SeededRandom", nio, nioPosix, nioHTTP1, nioEmbedded, logging,
                hummingbird,
            ],
            swiftSettings: settings
        ),
        .testTarget(name: "LoadtestTests", dependencies: ["carillon-loadtest", nio, nioPosix, nioHTTP1, nioConcurrency], swiftSettings: settings),
    ]
)
