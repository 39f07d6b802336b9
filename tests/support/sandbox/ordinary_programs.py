"""Ordinary programs, each with the one answer that it has in every runtime.

Where a runtime honestly differs, the program says why; the same reasons are in ``docs/sandbox.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Why a program cannot run the same in the confined runtime.
#: In `Ordinary.differs`: confined, where its programs have the host's own user id.
AS_HOST = "confined as the host"
_SHARED_ID = "a program with the host's own user id may not {}"
_NO_CHANGES = _SHARED_ID.format("change modes or times of files")
_NO_FOLDER = _SHARED_ID.format("use /dev/shm")
_NO_INOTIFY = "no inotify, since nothing counts the memory of events that are not read"

_NO_NAMES = "a user id from the host's numbers, which its files give no name"
_NO_SOCKETS = "no socket at all but pairs"
_NO_STATX = "the statx(2) of Debian's gVisor does not know a flag that coreutils gives it"
_NO_SHARED_MEMORY = "no shared memory but in files"


@dataclass(frozen=True)
class Ordinary:
    """A well-meant program.

    Attributes:
        expects: its standard output; it exits with 0 and says nothing on standard error.
        differs: by runtime, why the answer cannot be the same there.
    """

    name: str
    language: str
    source: str
    expects: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    stdin: str = ""
    differs: Mapping[str, str] = field(default_factory=dict)


_VIENNA = {"TZ": "Europe/Vienna"}

_PYTHON = (
    Ordinary(
        "local time",
        "python",
        "import time; print(time.strftime('%F %T %Z', time.localtime(1_720_000_000)))",
        "2024-07-03 11:46:40 CEST\n",
        environment=_VIENNA,
    ),
    Ordinary(
        "types of files",
        "python",
        "import mimetypes as m; print(m.guess_type('a.csv')[0], m.guess_type('b.png')[0])",
        "text/csv image/png\n",
    ),
    Ordinary(
        "a server under the name localhost",
        "python",
        "import http.server as h, socket, threading, urllib.request as r\n"
        "server = h.HTTPServer(('localhost', 0), h.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "import contextlib, io\n"
        "with contextlib.redirect_stderr(io.StringIO()):\n"
        "    print(r.urlopen(f'http://localhost:{server.server_port}/main.py').status)\n"
        "print(socket.gethostbyname(socket.gethostname()))",
        "200\n127.0.0.1\n",
        differs={"confined": _NO_SOCKETS},
    ),
    Ordinary(
        "no zone is UTC",
        "python",
        "import datetime as d, time\n"
        "print(d.datetime.fromtimestamp(0).hour, time.timezone, time.strftime('%z'))",
        "0 0 +0000\n",
    ),
    Ordinary(
        "zones by name",
        "python",
        "from datetime import datetime\nfrom zoneinfo import ZoneInfo\n"
        "for name in ('America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe', 'UTC'):\n"
        "    print(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo(name)).isoformat())",
        "2024-07-01T12:00:00-04:00\n2024-07-01T12:00:00+05:30\n"
        "2024-07-01T12:00:00+10:30\n2024-07-01T12:00:00+00:00\n",
    ),
    Ordinary(
        "text is UTF-8",
        "python",
        "import locale, sys\n"
        "print(locale.setlocale(locale.LC_ALL, ''), locale.getpreferredencoding())\n"
        "print(sys.stdout.encoding.lower(), sys.getfilesystemencoding(), 'é ж 漢 😀')\n"
        "open('ж漢.txt', 'w').write('é'); print(open('ж漢.txt', 'rb').read())",
        "C.UTF-8 UTF-8\nutf-8 utf-8 é ж 漢 😀\nb'\\xc3\\xa9'\n",
    ),
    Ordinary(
        "a locale of the job's",
        "python",
        "import locale; print(locale.setlocale(locale.LC_ALL, ''), f'{1234.5:n}')",
        "C.UTF-8 1234.5\n",
        environment={"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"},
    ),
    Ordinary(
        "who it is",
        "python",
        "import getpass, grp, os, pwd\n"
        "me = pwd.getpwuid(os.getuid())\n"
        "print(getpass.getuser(), me.pw_name, grp.getgrgid(os.getgid()).gr_name)\n"
        "others = [g for g in os.getgroups() if g not in (os.getgid(), 65534)]\n"
        "print(os.path.expanduser('~') == os.getcwd(), others)",
        "sandbox sandbox sandbox\nTrue []\n",
        differs={"confined": _NO_NAMES},
    ),
    Ordinary(
        "temporary files",
        "python",
        "import os, tempfile\n"
        "with tempfile.NamedTemporaryFile('w+') as file, tempfile.TemporaryDirectory() as folder:\n"
        "    file.write('kept'); file.seek(0)\n"
        "    print(file.read(), oct(os.stat(folder).st_mode & 0o777))\n"
        "print(tempfile.gettempdir() == os.environ['TMPDIR'], os.listdir(os.environ['TMPDIR']))",
        "kept 0o700\nTrue []\n",
    ),
    Ordinary(
        "moving files between folders",
        "python",
        "import os\nos.makedirs('a/b'); os.mkdir('c'); open('f', 'w').write('kept')\n"
        "os.rename('f', 'a/b/f'); os.rename('a/b', 'c/b'); os.link('c/b/f', 'hard')\n"
        "os.rename('c/b/f', os.environ['TMPDIR'] + '/f'); print(open('hard').read())",
        "kept\n",
    ),
    Ordinary(
        "children of a large program",
        "python",
        "import subprocess\nlarge = bytearray(150 << 20)\n"
        "print(sum(subprocess.call(['true']) == 0 for _ in range(60)))",
        "60\n",
    ),
    Ordinary(
        "modes of new files",
        "python",
        "import os\nos.mkdir('folder'); open('file', 'w').close()\n"
        "print(*(oct(os.stat(name).st_mode & 0o7777) for name in ('folder', 'file')))\n"
        "os.chmod('file', 0o600) if os.getuid() else None\n"
        "print(os.access('/', os.W_OK), os.access('/usr', os.W_OK))",
        "0o755 0o644\nFalse False\n",
        differs={AS_HOST: _NO_CHANGES},
    ),
    Ordinary(
        "SQLite in a file",
        "python",
        "import sqlite3\ndb = sqlite3.connect('x.db')\n"
        "print(db.execute('pragma journal_mode = wal').fetchone()[0])\n"
        "db.execute('create table t (a integer primary key, b text)')\n"
        "rows = [(str(n),) for n in range(1000)]\n"
        "with db: db.executemany('insert into t (b) values (?)', rows)\n"
        "print(sqlite3.connect('x.db').execute('select sum(b), max(a) from t').fetchone())",
        "wal\n(499500, 1000)\n",
    ),
    Ordinary(
        "SQLite in memory",
        "python",
        "import sqlite3\ndb = sqlite3.connect(':memory:')\n"
        "db.execute('create virtual table f using fts5(t)')\n"
        "db.executemany('insert into f values (?)', [('one two',), ('two three',)])\n"
        "print(db.execute(\"select count(*) from f where f match 'two'\").fetchone()[0])",
        "2\n",
    ),
    Ordinary(
        "pools",
        "python",
        "import concurrent.futures as f\ndef square(n): return n * n\n"
        "if __name__ == '__main__':\n"
        "    for kind in (f.ThreadPoolExecutor, f.ProcessPoolExecutor):\n"
        "        with kind(3) as pool: print(sum(pool.map(square, range(100))))",
        "328350\n328350\n",
        differs={AS_HOST: _NO_FOLDER},
    ),
    Ordinary(
        "processes that talk",
        "python",
        "import multiprocessing as m\n"
        "def work(queue, lock, total):\n"
        "    with lock: total.value += 1; queue.put(total.value)\n"
        "if __name__ == '__main__':\n"
        "    queue, lock, total = m.Queue(), m.Lock(), m.Value('i', 0)\n"
        "    all = [m.Process(target=work, args=(queue, lock, total)) for _ in range(3)]\n"
        "    for one in all: one.start()\n"
        "    print(sorted(queue.get() for _ in all)); [one.join() for one in all]",
        "[1, 2, 3]\n",
        differs={"confined": _NO_SHARED_MEMORY + " (a Value is an anonymous mapping)"},
    ),
    Ordinary(
        "shared memory",
        "python",
        "from multiprocessing import shared_memory\n"
        "one = shared_memory.SharedMemory(create=True, size=4096)\n"
        "one.buf[:5] = b'hello'\n"
        "other = shared_memory.SharedMemory(one.name)\n"
        "print(bytes(other.buf[:5])); other.close(); one.close(); one.unlink()",
        "b'hello'\n",
        differs={AS_HOST: _NO_FOLDER},
    ),
    Ordinary(
        "child processes",
        "python",
        "import subprocess as s\n"
        "print(s.run(['tr', 'a-z', 'A-Z'], input='text', capture_output=True, text=True).stdout)\n"
        "ends = s.run('exit 7', shell=True), s.run(['sh', '-c', 'kill -9 $$'])\n"
        "print(*(end.returncode for end in ends))\n"
        "first = s.Popen(['seq', '1000'], stdout=s.PIPE)\n"
        "print(s.check_output(['tail', '-n1'], stdin=first.stdout, text=True).strip())\n"
        "try: s.run(['sleep', '9'], timeout=0.1)\nexcept s.TimeoutExpired: print('too long')",
        "TEXT\n7 -9\n1000\ntoo long\n",
    ),
    Ordinary(
        "asyncio",
        "python",
        "import asyncio\nasync def main():\n"
        "    child = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)\n"
        "    print((await child.communicate(b'through'))[0], child.returncode)\n"
        "    print(await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(4))))\n"
        "    print(await asyncio.to_thread(sum, range(10)))\n"
        "    try: await asyncio.wait_for(asyncio.sleep(9), 0.01)\n"
        "    except TimeoutError: print('too long')\n"
        "asyncio.run(main())",
        "b'through' 0\n[0, 1, 2, 3]\n45\ntoo long\n",
    ),
    Ordinary(
        "a server of its own",
        "python",
        "import asyncio\nasync def main():\n"
        "    async def echo(reader, writer):\n"
        "        writer.write(await reader.readline()); writer.close()\n"
        "    server = await asyncio.start_server(echo, '127.0.0.1', 0)\n"
        "    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "    writer.write(b'hello\\n'); print(await reader.read())\n"
        "    writer.close(); server.close()\n"
        "asyncio.run(main())",
        "b'hello\\n'\n",
        differs={"confined": _NO_SOCKETS},
    ),
    Ordinary(
        "signals",
        "python",
        "import os, signal, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('usr1'))\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('alarm'))\n"
        "os.kill(os.getpid(), signal.SIGUSR1); signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "signal.pause()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)",
        "usr1\nalarm\nTrue\nTrue\n",
    ),
    Ordinary(
        "fork and wait",
        "python",
        "import os\nread, written = os.pipe()\n"
        "if (pid := os.fork()) == 0: os.write(written, b'child'); os._exit(5)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(read, 9))",
        "5 b'child'\n",
    ),
    Ordinary(
        "limits of its own",
        "python",
        "import resource as r\nprint(r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_CORE))\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 64))\nheld = []\n"
        "try:\n    while True: held.append(open('/dev/null'))\n"
        "except OSError as error: print(error.errno, len(held) > 50)",
        "1024 (0, 0)\n24 True\n",
    ),
    Ordinary(
        "hashes that are fixed",
        "python",
        "print(len({hash('text') for _ in range(3)}), hash('text') % 1000)\n",
        "1 886\n",
        environment={"PYTHONHASHSEED": "0"},
    ),
    Ordinary(
        "archives and digests",
        "python",
        "import gzip, hashlib, io, tarfile, zipfile, zlib, bz2, lzma\n"
        "data = b'x' * 100_000\n"
        "print(all(m.decompress(m.compress(data)) == data for m in (gzip, zlib, bz2, lzma)))\n"
        "with zipfile.ZipFile('a.zip', 'w') as z: z.writestr('n', data)\n"
        "print(len(zipfile.ZipFile('a.zip').read('n')), hashlib.sha256(data).hexdigest()[:8])",
        "True\n100000 d69e6898\n",
    ),
    Ordinary(
        "locked and mapped files",
        "python",
        "import fcntl, mmap\nfile = open('f', 'w+b'); file.truncate(8192)\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "with mmap.mmap(file.fileno(), 0) as m: m[:3] = b'abc'; m.flush()\n"
        "print(open('f', 'rb').read(3))",
        "b'abc'\n",
    ),
    Ordinary(
        "a nicer process",
        "python",
        "import os; print(os.nice(3) - os.nice(0))",
        "0\n",
        differs={
            "confined": "it shares its processes' numbers with the host: no priority is changed"
        },
    ),
)

_SHELL = (
    Ordinary(
        "date",
        "shell",
        "date -d @1720000000 '+%F %T %Z'; TZ=Asia/Tokyo date -d @0 +%H:%M; TZ= date -d @0 +%H",
        "2024-07-03 11:46:40 CEST\n09:00\n00\n",
        environment=_VIENNA,
    ),
    Ordinary(
        "sort",
        "shell",
        "printf 'b\\nA\\na\\nB\\né\\n10\\n9\\n' | sort | tr '\\n' ' '\n"
        "printf '10\\n9\\n-1\\n2.5\\n' | sort -n | tr '\\n' ' '\n"
        "printf 'x 3\\ny 1\\n' | sort -k2 | cut -d' ' -f1 | tr '\\n' ' '; echo\n",
        "10 9 A B a b é -1 2.5 9 10 y x \n",
    ),
    Ordinary(
        "awk",
        "shell",
        "awk -F, '{ total += $2 } END { printf \"%.2f %d\\n\", total / NR, NR }' data.csv\n"
        'awk \'BEGIN { s = "a-b-c"; n = split(s, p, "-"); print n, toupper(p[3]), substr(s, 3) }\'',
        "2.50 2\n3 C b-c\n",
        files={"data.csv": "x,2\ny,3\n"},
    ),
    Ordinary(
        "bash",
        "shell",
        "bash -c 'a=(one two); echo ${#a[@]} ${a[1]^^} $((2**10)); "
        "[[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}; diff <(echo x) <(echo x) && echo same'",
        "2 TWO 1024\nc\nsame\n",
    ),
    Ordinary(
        "jq",
        "shell",
        "jq -c '[.[] | select(.n > 1) | .s] | sort' data.json",
        '["b","ж"]\n',
        files={"data.json": '[{"n":1,"s":"a"},{"n":2,"s":"ж"},{"n":3,"s":"b"}]'},
    ),
    Ordinary(
        "pipes and text",
        "shell",
        "seq 100 | grep 9 | wc -l; echo 'a b  c' | sed 's/ \\+/-/g'\n"
        "printf 'é' | wc -c -m | xargs\n"
        "echo 'scale=3; 10/3' | bc; printf 'q' | od -An -tx1 | tr -d ' '; expr 6 \\* 7\n"
        "printf 'x\\nx\\ny\\n' | uniq -c | awk '{print $1 $2}' | tr '\\n' ' '; echo",
        "19\na-b-c\n1 2\n3.333\n71\n42\n2x 1y \n",
    ),
    Ordinary(
        "files and folders",
        "shell",
        "mkdir -p a/b && echo text > a/b/f && tar -czf x.tgz a && rm -r a && tar -xzf x.tgz\n"
        "find . -name f -type f; cat < a/b/f; umask\n"
        'd=$(mktemp -d) && [ "${d%/*}" = "$TMPDIR" ] && echo made\n'
        "cat <<EOF\nhere $((1 + 1))\nEOF\n",
        "./a/b/f\ntext\n0022\nmade\nhere 2\n",
        differs={AS_HOST: _NO_CHANGES},
    ),
    Ordinary(
        "a listing",
        "shell",
        "mkdir d; echo x > d/f; ls -l d | tail -n1 | cut -c1-10; stat -c %s,%a d/f; ls -d d/*",
        "-rw-r--r--\n2,644\nd/f\n",
        differs={"docker+runsc": _NO_STATX},
    ),
    Ordinary(
        "arguments and input",
        "shell",
        'trap "echo bye" EXIT; echo "$# $1"; read -r line; echo "<$line>"; cat; (exit 3); echo $?',
        "2 a b\n<first>\nsecond\n3\nbye\n",
        args=("a b", "*"),
        stdin="first\nsecond\n",
    ),
    Ordinary(
        "perl",
        "shell",
        'TZ=America/Lima perl -e \'use POSIX; print strftime("%H\\n", localtime 0), join(",", sort'
        ' { $b <=> $a } 1..3), "\\n"\'',
        "19\n3,2,1\n",
    ),
    Ordinary(
        "names",
        "shell",
        "id -un; id -gn; whoami; echo $USER",
        "sandbox\n" * 4,
        differs={"confined": _NO_NAMES},
    ),
)

_NODE = (
    Ordinary(
        "local time",
        "node",
        "const t = new Date(1720000000000);\n"
        "console.log(t.getHours(), t.getTimezoneOffset());\n"
        "console.log(new Intl.DateTimeFormat('de-AT', {timeZone: 'Asia/Tokyo',"
        " timeStyle: 'short'}).format(t), Intl.DateTimeFormat().resolvedOptions().timeZone)",
        "11 -120\n18:46 Europe/Vienna\n",
        environment=_VIENNA,
    ),
    Ordinary(
        "workers",
        "node",
        "const {Worker, isMainThread, parentPort, workerData} = require('worker_threads');\n"
        "if (isMainThread) { let n = 0, sum = 0; for (const v of [1, 2, 3]) {\n"
        "  new Worker(__filename, {workerData: v}).on('message', m => { sum += m;"
        " if (++n == 3) console.log(sum) }) } }\n"
        "else parentPort.postMessage(workerData * 10)",
        "60\n",
    ),
    Ordinary(
        "files and children",
        "node",
        "const fs = require('fs'), os = require('os'), c = require('child_process');\n"
        "fs.writeFileSync('ж.txt', 'é'); console.log(fs.readFileSync('ж.txt').length);\n"
        "console.log(os.tmpdir() === process.env.TMPDIR, os.homedir() === process.cwd());\n"
        "console.log(c.execSync('echo child').toString().trim(),"
        " c.spawnSync('sh', ['-c', 'exit 4']).status);\n"
        "console.log(require('crypto').createHash('sha1').update('x').digest('hex').slice(0, 8));",
        "2\ntrue true\nchild 4\n11f6ad8e\n",
    ),
    Ordinary(
        "a watched file",
        "node",
        "const fs = require('fs'); fs.writeFileSync('f', '1');\n"
        "const w = fs.watch('f', () => { console.log('changed'); w.close() });\n"
        "setTimeout(() => fs.writeFileSync('f', '2'), 50)",
        "changed\n",
        differs={"confined": _NO_INOTIFY},
    ),
    Ordinary(
        "input by lines",
        "node",
        "require('readline').createInterface({input: process.stdin})"
        ".on('line', l => console.log(l.toUpperCase())).on('close', () => console.log('end'))",
        "A\nÉ\nend\n",
        stdin="a\né\n",
    ),
    Ordinary(
        "who it is",
        "node",
        "const u = require('os').userInfo(); console.log(u.username, u.homedir)",
        "sandbox /box/work\n",
        differs={"confined": _NO_NAMES},
    ),
)

_RUBY = (
    Ordinary(
        "local time",
        "ruby",
        "puts Time.at(1720000000).strftime('%T %Z'), Time.at(0).utc.hour",
        "11:46:40 CEST\n0\n",
        environment=_VIENNA,
    ),
    Ordinary(
        "gems",
        "ruby",
        "%w[json yaml csv set date time bigdecimal digest erb tempfile open3 etc]"
        ".each { require _1 }\n"
        "puts JSON.generate(a: 'é'), YAML.load('[1, 2]').sum, CSV.parse(\"a,b\\n\").inspect\n"
        "puts Date.new(2024, 2, 29).yday, BigDecimal('0.1') * 3 == BigDecimal('0.3')\n"
        "puts Gem::Version.new('1.10') > Gem::Version.new('1.9')\n"
        "puts Etc.getpwuid.name, Encoding.default_external",
        '{"a":"é"}\n3\n[["a", "b"]]\n60\ntrue\ntrue\nsandbox\nUTF-8\n',
    ),
    Ordinary(
        "threads and children",
        "ruby",
        "require 'open3'; require 'tempfile'\n"
        "puts 4.times.map { |n| Thread.new { n * n } }.sum(&:value)\n"
        "puts Open3.capture2('tr a-z A-Z', stdin_data: 'text')[0], `exit 6`.empty?, $?.exitstatus\n"
        "Tempfile.create('x') { |f| f.write('kept'); f.rewind; puts f.read }\n"
        "puts Process.wait2(fork { exit 3 })[1].exitstatus",
        "14\nTEXT\ntrue\n6\nkept\n3\n",
    ),
)

ORDINARY = (*_PYTHON, *_SHELL, *_NODE, *_RUBY)
