"""What runs a broker on this machine: a Java, a class path, and the flags that make it start fast and stay small."""

from dataclasses import dataclass, replace
from pathlib import Path

from streamer.broker.jars import Progress, class_path
from streamer.broker.java import Java, find_java

# Measured on two cores, to the first list_topics: 2.5-3.2 s with these, 6.6-7.8 s without. A broker of one machine
# gains nothing from a parallel collector or from the second compiler.
_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k", "-Djava.awt.headless=true")
_QUIET = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")
_QUIET_SINCE = 24


@dataclass(frozen=True)
class Runtime:
    """A Java with Kafka on its class path."""

    java: Java
    class_path: str
    start_up: tuple[str, ...] = ()  # flags that read or write a start-up archive

    def command(self, main: str, *arguments: str, heap: str, log4j: Path) -> list[str]:
        """The command line of one of Kafka's programs."""
        # Java 24 and later warn of what Kafka's own libraries do in memory; nothing of it is ours to change.
        quiet = _QUIET if self.java.major >= _QUIET_SINCE else ()
        return [
            str(self.java.path),
            f"-Xms{heap}",
            f"-Xmx{heap}",
            *_FLAGS,
            *quiet,
            *self.start_up,
            f"-Dlog4j2.configurationFile={log4j}",
            "-cp",
            self.class_path,
            main,
            *arguments,
        ]

    def starting_with(self, *flags: str) -> "Runtime":
        """The same with other start-up flags."""
        return replace(self, start_up=flags)


def find_runtime(progress: Progress | None = None) -> Runtime:
    """Find Java, and make sure that Kafka's jars are there."""
    return Runtime(find_java(), class_path(progress))
