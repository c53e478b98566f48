# The Rack application behind Puma. SUBJECT_FAULT names a file with what is wrong with the next generation.
path = ENV.fetch("SUBJECT_FAULT", "")
fault = File.exist?(path) ? File.read(path).strip : ""
wedged = false
case fault
when "exit" then exit!(3)
when "crash" then Thread.new { sleep 1.5; exit!(70) }
when "never" then sleep 3600
when "wedge" then Thread.new { sleep 1.5; wedged = true }
when "slow" then sleep 0.25
end
run lambda { |_env|
  sleep 3600 if wedged
  [200, {"Content-Type" => "text/plain"}, ["pid=#{Process.pid}\n"]]
}
