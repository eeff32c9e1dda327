/*
 * The stop, as _runtime.py, _queue.py, _worker.py, _timer.py and _run.py do it: producers put runs into one queue without
 * a lock, workers take and close them, the timer brings a retry back; a shutdown drains until its deadline, closes, drains
 * what came in meanwhile, and sweeps. docs/explanation/model.md tells it in words, model.py checks it.
 *
 * Any thread may take the next step. A step is a call of C code, or a look at something shared; several are one step where
 * a lock is held and the others can see only one of them.
 */

#define PRODUCERS 2          /* at most; the environment variables below say how many */
#define WORKERS 2            /* likewise */
#define RUNS (PRODUCERS + 1)
#define FIRST 0              /* the run that is tried again, is cancelled, and enqueues the last one at any time */
#define LAST PRODUCERS
#define NOBODY 255

/* One bug that is planted, if any. */
#define NO_RECHECK 1
#define HANDS_FIRST 2
#define NO_CLAIM 3
#define MARKS_STATE 4
#define NO_NUDGE 5
#define NUDGES_FOR_PLACES 6
#define TORN_MOVES 7

c_code {
	static int from_environment(const char *name) {
		const char *text = getenv(name);
		return text ? atoi(text) : 0;
	}
};

/* What is checked in this search. */
byte producers, workers, bug;
bool hurried; /* a deadline comes, and jobs may hang */
bool retries; /* the job of the first run fails once and is tried again */
bool cancels; /* the first run is cancelled, at any time */

mtype = { queued, running, retrying, succeeded, failed, discarded, cancelled };

bool mutex; /* the one lock of the runtime */

/* The queue. */
chan level = [RUNS + 1] of { byte }; /* the runs that wait */
byte permits;                        /* those at home */
byte announcing;
bool easy = true, closed, swept;
bool is_retrying;

/* The threads. */
byte ready; /* permits on the ready list */
bool holds_permit[WORKERS];
byte hand[WORKERS] = NOBODY;
bool threads_stopped;

/* The timer. */
bool in_heap, calling;

/* The shutdown. */
byte watchers;
bool woken;          /* whether the drain was notified */
bool deadline;       /* whether it has passed */
bool stopped;        /* whether the shutdown has returned */

/* The runs. */
bool open[RUNS] = true;
mtype state[RUNS] = queued;
mtype outcome[RUNS] = queued;
byte closings[RUNS], reported[RUNS], performed[RUNS];
bool accepted[RUNS], refused[RUNS];
bool told_to_stop; /* the first run */
bool early[RUNS]; /* accepted before the closing, in a search that is not hurried */

inline lock() { !mutex -> mutex = true }

/* Run._close: whoever deletes _open closes the run. JobQueue.discard adds it to the report. */
inline close(item, how, won) {
	if
	:: bug == NO_CLAIM -> won = open[item]
	:: else
	fi;
	d_step {
		won = (bug == NO_CLAIM -> won : open[item]);
		open[item] = false;
		if
		:: won ->
			closings[item]++;
			outcome[item] = how;
			reported[item] = reported[item] + (how == discarded -> 1 : 0)
		:: else
		fi
	};
	if
	:: won -> state[item] = how; won = false
	:: else
	fi
}

inline hand_over() {
	d_step {
		if
		:: permits > 0 -> permits--; ready++
		:: else
		fi
	}
}

/* JobQueue.nudge. */
inline nudge() {
	if
	:: permits > 0 ->
		if
		:: len(level) + (bug == NUDGES_FOR_PLACES -> announcing : 0) > 0 -> hand_over()
		:: else
		fi
	:: else
	fi
}

/* Threads.tell. */
inline tell() {
	if
	:: watchers > 0 -> atomic { !mutex -> woken = true }
	:: else
	fi
}

inline accept(item) {
	d_step {
		accepted[item] = true;
		early[item] = !hurried && !closed
	}
}

/* JobQueue.enqueue, JobQueue._recheck. */
inline enqueue(item, late, won) {
	if
	:: easy ->
		level!item;
		if
		:: closed && bug != NO_RECHECK ->
			atomic {
				!mutex;
				if
				:: !swept -> late = false
				:: swept && level??[eval(item)] -> level??eval(item); refused[item] = true; late = false
				:: swept && !(level??[eval(item)]) -> late = true
				fi
			};
			if
			:: late -> late = false; close(item, discarded, won)
			:: else
			fi
		:: else
		fi;
		if
		:: !refused[item] -> accept(item)
		:: else
		fi
	:: else -> put(item)
	fi;
	if
	:: nempty(level) -> hand_over()
	:: empty(level)
	fi
}

/* JobQueue.put. */
inline put(item) {
	if
	:: atomic { !mutex && !closed -> level!item };
		nudge();
		accept(item)
	:: atomic { !mutex && closed -> refused[item] = true }
	fi
}

/* JobQueue.put and JobQueue._put_announced, where job_enqueued has receivers. */
inline put_announced(item, won) {
	if
	:: atomic { !mutex && !closed -> announcing++ };
		atomic { lock(); announcing-- };
		if
		:: swept -> mutex = false; close(item, discarded, won)
		:: else -> level!item; mutex = false; nudge()
		fi;
		accept(item)
	:: atomic { !mutex && closed -> refused[item] = true }
	fi
}

proctype Producer(byte item) {
	bool late, won;
	if
	:: enqueue(item, late, won)
	:: put_announced(item, won)
	fi
}

/* JobQueue.retry. */
inline retry(item, kept) {
	atomic {
		!mutex;
		kept = !swept && !told_to_stop;
		if
		:: kept -> state[item] = retrying; is_retrying = true; in_heap = true
		:: else
		fi
	}
}

/* Worker._attempt. */
inline attempt(item, late, won) {
	if
	:: item == FIRST && told_to_stop -> close(item, cancelled, won)
	:: else -> start(item, late, won)
	fi
}

inline start(item, late, won) {
	state[item] = running;
	if
	:: !open[item] -> state[item] = discarded
	:: else ->
		performed[item]++;
		if
		:: hurried -> end_hung: false
		:: item == FIRST && performed[item] == 1 -> enqueue(LAST, late, won)
		:: true
		fi;
		if
		:: retries && item == FIRST && performed[item] == 1 ->
			retry(item, late);
			if
			:: late -> late = false
			:: !late && told_to_stop -> close(item, cancelled, won)
			:: !late && !told_to_stop -> close(item, failed, won)
			fi
		:: else -> close(item, succeeded, won)
		fi
	fi
}

/* Threads._serve, Worker.work, JobQueue.retire. */
proctype Worker(byte me) {
	bool late, won;
	byte item = NOBODY;
end_idle:
	do
	:: atomic { ready > 0 -> ready--; holds_permit[me] = true };
		do
		:: atomic {
				nempty(level) -> level?item;
				if
				:: bug != TORN_MOVES -> hand[me] = item
				:: else
				fi
			};
			if
			:: hand[me] == NOBODY -> hand[me] = item
			:: else
			fi;
			attempt(item, late, won);
			atomic { item = NOBODY; hand[me] = NOBODY }
		:: empty(level) -> break
		od;
		atomic { holds_permit[me] = false; permits++ };
		if
		:: bug != NO_NUDGE -> nudge()
		:: else
		fi;
		tell()
	:: threads_stopped -> break
	od
}

/* JobQueue.come_back. */
inline come_back(item, late, won) {
	atomic { lock(); late = swept };
	if
	:: !is_retrying -> mutex = false; late = false
	:: else ->
		if
		:: !late && open[item] -> state[item] = queued; atomic { is_retrying = false; level!item }
		:: late || !open[item]
		fi;
		mutex = false;
		if
		:: late -> late = false; close(item, discarded, won)
		:: else
		fi;
		atomic { !mutex -> is_retrying = false };
		nudge()
	fi
}

proctype Timer() {
	bool late, won;
end_idle:
	do
	:: atomic { in_heap && !mutex -> in_heap = false; calling = true };
		come_back(FIRST, late, won);
		calling = false;
		tell()
	:: threads_stopped -> break
	od
}

/* JobQueue.withdraw. */
inline withdraw(item, taken) {
	atomic {
		!mutex;
		if
		:: is_retrying ->
			is_retrying = false;
			taken = true;
			state[item] = (bug == MARKS_STATE -> cancelled : state[item])
		:: !is_retrying && state[item] == queued && level??[eval(item)] -> level??eval(item); taken = true
		:: !is_retrying && !(state[item] == queued && level??[eval(item)]) -> told_to_stop = true; taken = false
		fi
	}
}

/* Run.cancel. */
proctype Canceller() {
	bool taken, won;
	accepted[FIRST] || refused[FIRST];
	if
	:: accepted[FIRST] && closings[FIRST] == 0 ->
		withdraw(FIRST, taken);
		if
		:: taken -> close(FIRST, cancelled, won); tell()
		:: else
		fi
	:: else
	fi
}

/* Runtime.quiet, JobQueue.quiet; the lock is held. */
inline look(quiet) {
	quiet = !in_heap && !calling;
	for (one : 0 .. WORKERS - 1) {
		quiet = quiet && !holds_permit[one] && hand[one] == NOBODY
	}
	quiet = quiet && empty(level);
	quiet = quiet && announcing == 0;
	quiet = quiet && permits == workers;
	one = 0
}

/* Runtime.drain. */
inline drain() {
	nudge();
	atomic { lock(); watchers++ };
	do
	:: true ->
		look(quiet);
		if
		:: quiet -> break
		:: !quiet && deadline -> break
		:: else -> atomic { woken = false; mutex = false }; atomic { (woken || deadline) && !mutex -> mutex = true }
		fi
	od;
	atomic { mutex = false; watchers--; quiet = false }
}

inline take_level() {
	do
	:: level?item -> left[item] = true; item = 0
	:: empty(level) -> break
	od
}

inline take_hands() {
	for (one : 0 .. WORKERS - 1) {
		d_step {
			if
			:: hand[one] != NOBODY -> left[hand[one]] = true
			:: else
			fi
		}
	}
}

/* Runtime._sweep, JobQueue.sweep. */
inline sweep() {
	atomic { lock(); closed = true; swept = true; easy = false };
	if
	:: bug == HANDS_FIRST -> take_hands(); take_level()
	:: else -> take_level(); take_hands()
	fi;
	mutex = false;
	for (one : 0 .. RUNS - 1) {
		if
		:: left[one] -> left[one] = false; close(one, discarded, won)
		:: else
		fi
	}
	if
	:: atomic { in_heap && !mutex -> in_heap = false };
		withdraw(FIRST, late);
		if
		:: late -> late = false; close(FIRST, discarded, won)
		:: else
		fi
	:: !in_heap
	fi
}

/* Runtime._shut_down. */
proctype Shutdown() {
	bool quiet, late, won, left[RUNS];
	byte item, one;
	drain();
	atomic { !mutex -> closed = true; easy = false };
	drain();
	sweep();
	atomic { threads_stopped = true; stopped = true }
}

proctype Clock() { deadline = true }

/* When nothing can go on any more. */
proctype Auditor() {
	byte item;
	timeout;
	assert(stopped);
	for (item : 0 .. RUNS - 1) {
		assert(!(accepted[item] && refused[item]));
		if
		:: accepted[item] ->
			assert(closings[item] == 1);
			assert(reported[item] == (outcome[item] == discarded -> 1 : 0));
			assert(state[item] == outcome[item]);
			assert(outcome[item] != succeeded || performed[item] > 0);
			assert(outcome[item] != cancelled || item == FIRST)
		:: else -> assert(closings[item] == 0 && performed[item] == 0)
		fi;
		assert(performed[item] <= (retries && item == FIRST -> 2 : 1));
		assert(!early[item] || outcome[item] == succeeded || outcome[item] == cancelled)
	}
}

init {
	byte number;
	d_step {
		c_code {
			now.producers = from_environment("PRODUCERS");
			now.workers = from_environment("WORKERS");
			now.bug = from_environment("BUG");
			now.hurried = from_environment("HURRIED");
			now.retries = from_environment("RETRIES");
			now.cancels = from_environment("CANCELS");
		};
		permits = workers
	};
	atomic {
		for (number : 0 .. producers - 1) { run Producer(number) }
		for (number : 0 .. workers - 1) { run Worker(number) }
		run Shutdown();
		run Auditor();
		if
		:: hurried -> run Clock()
		:: else
		fi;
		if
		:: retries -> run Timer()
		:: else
		fi;
		if
		:: cancels -> run Canceller()
		:: else
		fi
	}
}

ltl stop_ends { <> stopped }
