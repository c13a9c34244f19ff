BEGIN TRANSACTION;
CREATE TABLE audit (
	"key" INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	run_id TEXT, 
	session TEXT, 
	action TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE flow (
	id TEXT NOT NULL, 
	client TEXT NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	tasks TEXT NOT NULL, 
	parameters TEXT, 
	edges TEXT, 
	schedule TEXT, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (client, name)
);
INSERT INTO "flow" VALUES('5a305bbd-feec-43d5-9356-79dfa75a74e8','team','etl','','{"env":"prod"}','[{"name":"load","description":"","weight":null,"estimatedTime":1000,"crucialPass":true}]',NULL,NULL,NULL,1795284448283,1795284448283);
INSERT INTO "flow" VALUES('924778f0-90ff-4273-8eb5-0620519f27c4','team','old','','{}','[{"name":"a","description":"","weight":null,"estimatedTime":1000,"crucialPass":true},{"name":"b","description":"","weight":null,"estimatedTime":1000,"crucialPass":true}]',NULL,'[[0,1]]','"*/5 * * * *"',1795284448296,1795284448296);
CREATE TABLE log (
	run INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	task INTEGER, 
	stream TEXT NOT NULL, 
	level TEXT, 
	at BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (run, seq), 
	FOREIGN KEY(run) REFERENCES run ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "log" VALUES(1,1,0,'stdout',NULL,1700000000200,'hello');
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value TEXT, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('schema_version','2');
CREATE TABLE request (
	"key" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run INTEGER NOT NULL, 
	flow_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	session TEXT, 
	lease TEXT, 
	lease_until BIGINT, 
	offers INTEGER NOT NULL, 
	created BIGINT NOT NULL, 
	UNIQUE (run), 
	FOREIGN KEY(run) REFERENCES run ("key") ON DELETE CASCADE
);
INSERT INTO "request" VALUES(1,2,'924778f0-90ff-4273-8eb5-0620519f27c4','queued',NULL,NULL,NULL,0,1795284448302);
CREATE TABLE run (
	"key" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	flow_id TEXT, 
	flow_name TEXT NOT NULL, 
	client TEXT NOT NULL, 
	session TEXT, 
	state TEXT NOT NULL, 
	"trigger" TEXT NOT NULL, 
	configuration TEXT NOT NULL, 
	parameters TEXT, 
	parent TEXT, 
	tags TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	created BIGINT NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	modified BIGINT NOT NULL, 
	progress FLOAT NOT NULL, 
	inferred SMALLINT NOT NULL, 
	settled SMALLINT NOT NULL, 
	cancel BIGINT, 
	reason TEXT, 
	error TEXT, 
	tasks INTEGER NOT NULL, 
	lines INTEGER NOT NULL, 
	UNIQUE (id)
);
INSERT INTO "run" VALUES(1,'22222222-2222-4222-8222-222222222222','5a305bbd-feec-43d5-9356-79dfa75a74e8','etl','team','11111111-1111-4111-8111-111111111111','COMPLETED','call','development',NULL,NULL,'{"env":"prod"}',1700000000000,1795284448281,1700000000000,1700000000400,1795284448281,100.0,0,1,NULL,NULL,NULL,1,1);
INSERT INTO "run" VALUES(2,'60b6ab0f-260a-438b-8087-cba3033f8b2f','924778f0-90ff-4273-8eb5-0620519f27c4','old','team',NULL,'PENDING','request','development',NULL,NULL,'{}',1795284448302,1795284448302,NULL,NULL,1795284448302,0.0,0,0,NULL,NULL,NULL,2,0);
CREATE TABLE run_tag (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	run INTEGER NOT NULL, 
	PRIMARY KEY (name, value, at, run), 
	FOREIGN KEY(run) REFERENCES run ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "run_tag" VALUES('env','prod',1700000000000,1);
CREATE TABLE session (
	id TEXT NOT NULL, 
	client TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	monitored SMALLINT NOT NULL, 
	created BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "session" VALUES('11111111-1111-4111-8111-111111111111','team',5,1,1795284448278);
CREATE TABLE session_flow (
	session TEXT NOT NULL, 
	flow_id TEXT NOT NULL, 
	PRIMARY KEY (session, flow_id)
)
 WITHOUT ROWID

;
INSERT INTO "session_flow" VALUES('11111111-1111-4111-8111-111111111111','5a305bbd-feec-43d5-9356-79dfa75a74e8');
INSERT INTO "session_flow" VALUES('11111111-1111-4111-8111-111111111111','924778f0-90ff-4273-8eb5-0620519f27c4');
CREATE TABLE statistic (
	flow_id TEXT NOT NULL, 
	task TEXT NOT NULL, 
	samples BIGINT NOT NULL, 
	mean FLOAT NOT NULL, 
	m2 FLOAT NOT NULL, 
	runs BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (flow_id, task)
);
INSERT INTO "statistic" VALUES('5a305bbd-feec-43d5-9356-79dfa75a74e8','load',1,200.0,0.0,1,1795284448291);
INSERT INTO "statistic" VALUES('5a305bbd-feec-43d5-9356-79dfa75a74e8','',1,400.0,0.0,1,1795284448291);
CREATE TABLE task (
	run INTEGER NOT NULL, 
	idx INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	state TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	duration BIGINT, 
	estimate BIGINT NOT NULL, 
	weight FLOAT, 
	crucial SMALLINT NOT NULL, 
	progress FLOAT, 
	map_index INTEGER, 
	upstream TEXT, 
	reason TEXT, 
	inferred SMALLINT NOT NULL, 
	slow SMALLINT NOT NULL, 
	PRIMARY KEY (run, idx), 
	FOREIGN KEY(run) REFERENCES run ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "task" VALUES(1,0,'load','COMPLETED',1,1700000000100,1700000000300,200,1000,NULL,1,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "task" VALUES(2,0,'a','PENDING',1,NULL,NULL,NULL,1000,NULL,1,NULL,NULL,'[]',NULL,0,0);
INSERT INTO "task" VALUES(2,1,'b','PENDING',1,NULL,NULL,NULL,1000,NULL,1,NULL,NULL,'[0]',NULL,0,0);
CREATE TABLE task_attempt (
	run INTEGER NOT NULL, 
	idx INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	error TEXT, 
	reason TEXT, 
	worker TEXT, 
	PRIMARY KEY (run, idx, attempt), 
	FOREIGN KEY(run) REFERENCES run ("key") ON DELETE CASCADE
);
CREATE TABLE task_detail (
	run INTEGER NOT NULL, 
	idx INTEGER NOT NULL, 
	result TEXT, 
	error TEXT, 
	PRIMARY KEY (run, idx), 
	FOREIGN KEY(run) REFERENCES run ("key") ON DELETE CASCADE
);
INSERT INTO "task_detail" VALUES(1,0,'{"passed":true,"note":"ok","table":[]}',NULL);
CREATE INDEX flow_name ON flow (name);
CREATE INDEX run_client_state_at ON run (client, state, at, "key");
CREATE INDEX run_state_at ON run (state, at, "key");
CREATE INDEX run_at ON run (at, "key");
CREATE INDEX run_flow_at ON run (flow_id, at, "key");
CREATE INDEX run_unsettled ON run (session) WHERE settled = 0;
CREATE INDEX run_flow_state_at ON run (flow_id, state, at, "key");
CREATE INDEX run_client_at ON run (client, at, "key");
CREATE INDEX audit_run ON audit (run_id);
CREATE INDEX run_tag_run ON run_tag (run);
CREATE INDEX request_state ON request (state, "key");
CREATE INDEX request_flow_state ON request (flow_id, state, "key");
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('run',2);
INSERT INTO "sqlite_sequence" VALUES('request',1);
COMMIT;
